// A set of keys that only grows, with some keys that come and go, and a client that walks over all
// of it page by page, from node to node. A walk is one operation; it fails as soon as one of its pages
// does. What it must have returned is the business of CK-10.

import { utf8 } from '../../runtime/bytes.ts';
import type { Prng } from '../../runtime/prng.ts';
import type { Outcome, Phase } from '../history.ts';
import type { Settlement, Workload, WorkloadContext, WorkloadKind } from '../workload.ts';
import { ClientLoop, perSecondOf } from './client-loop.ts';
import { type Asker, classify, type Classified, HttpClient, type Request } from './http-client.ts';

export const scanWorkloadName = 'scans';
/** All keys of this workload begin so. */
export const scanPrefix = 'scan-';

interface ScanOptions {
  readonly clients: number;
  readonly thinkMs: number;
  readonly pageKeys: number;
  readonly scanRatio: number;
}

const timeoutMs = 3_000;
/** Keys that come and go, among the others: walks have to get over what was deleted. */
const changingKeys = 40;
const settlePageKeys = 50;

interface Walk extends Request {
  /** Keys of a page; absent: as the seed says. */
  readonly pageKeys?: number;
  /** One for each page; the walk goes round. */
  readonly nodes: readonly string[];
  readonly route: 'list' | 'scan';
}

type Drawn = Request | Walk;

class Scans implements Workload {
  readonly #context: WorkloadContext;
  readonly #options: ScanOptions;
  readonly #client: HttpClient;
  readonly #loop: ClientLoop;
  #keys = 0;
  #writes = 0;

  constructor(context: WorkloadContext, options: ScanOptions) {
    this.#context = context;
    this.#options = options;
    this.#client = new HttpClient(context.cluster, context.history, scanWorkloadName);
    const { clients, thinkMs } = options;
    this.#loop = new ClientLoop(context, {
      clients,
      thinkMs,
      draw: (random) => {
        const drawn = this.#draw(random);
        return (asker) => this.#perform(asker, drawn);
      },
    });
  }

  enter(phase: Phase): void {
    this.#client.phase = phase;
  }

  run(): Promise<void> {
    return this.#loop.run();
  }

  stop(): void {
    this.#loop.stop();
  }

  async settle(settlement: Settlement): Promise<void> {
    const asker = { process: -1, client: -1, turn: -1 };
    for (const route of ['list', 'scan'] as const)
      await settlement.untilOk(`${route} of all keys`, async (node) => {
        // All keys of all workloads in time: the pages of chaos may be of one key.
        const walk = { ...walkOf(route, [node]), pageKeys: settlePageKeys };
        const outcome = await this.#perform(asker, walk);
        return { outcome, code: route };
      });
  }

  #draw(random: Prng): Drawn {
    const { names } = this.#context.cluster;
    if (random.chance(this.#options.scanRatio))
      return walkOf(random.chance(0.7) ? 'list' : 'scan', random.shuffled(names));
    const common = { node: random.pick(names), level: 'QUORUM', timeoutMs };
    this.#writes += 1;
    const value = utf8.encode(`c${this.#writes}`);
    if (random.chance(0.5)) {
      const key = `${scanPrefix}${random.int(changingKeys)}x`;
      return random.chance(0.3)
        ? { ...common, kind: 'put', key, value }
        : { ...common, kind: 'delete', key };
    }
    this.#keys += 1;
    return { ...common, kind: 'put', key: `${scanPrefix}${this.#keys}`, value };
  }

  async #perform(asker: Asker, drawn: Drawn): Promise<Outcome> {
    if (!('nodes' in drawn)) return (await this.#client.perform(asker, drawn)).operation.outcome;
    const index = this.#client.begin(asker, drawn);
    const { how, classified } = await this.#walk(drawn);
    return this.#client.end(index, how, classified).outcome;
  }

  async #walk(walk: Walk): Promise<{ how: 'reply' | 'lost'; classified: Classified }> {
    const keys: string[] = [];
    let cursor: string | undefined;
    for (let page = 0; ; page += 1) {
      const node = walk.nodes[page % walk.nodes.length] as string;
      const limit = String(walk.pageKeys ?? this.#options.pageKeys);
      const query = {
        ...(walk.route === 'list' ? { limit, prefix: scanPrefix } : { count: limit }),
        ...(cursor === undefined ? {} : { cursor }),
      };
      const answer = await this.#client.send({ ...walk, node, query });
      const classified = classify('scan', answer);
      if (answer.kind !== 'reply') return { how: 'lost', classified };
      if (classified.outcome !== 'ok') return { how: 'reply', classified };
      const found = JSON.parse(utf8.decode(answer.reply.body)) as Page;
      keys.push(...found.keys.filter((key) => key.startsWith(scanPrefix)));
      cursor = found.cursor ?? found.next_cursor ?? undefined;
      if (cursor === undefined) return { how: 'reply', classified: { ...classified, keys } };
    }
  }
}

interface Page {
  readonly keys: readonly string[];
  readonly cursor?: string | null;
  readonly next_cursor?: string | null;
}

function walkOf(route: 'list' | 'scan', nodes: readonly string[]): Walk {
  const node = nodes[0] as string;
  return { kind: 'scan', key: route, node, nodes, route, level: 'QUORUM', timeoutMs };
}

export const scanWorkload: WorkloadKind = {
  name: scanWorkloadName,
  prepare: (random) => {
    if (random.chance(0.6)) return undefined;
    const options: ScanOptions = {
      clients: random.between(1, 3),
      thinkMs: random.logUniform(150, 800),
      pageKeys: random.pick([1, 7, 50]),
      scanRatio: 0.1,
    };
    return {
      name: scanWorkloadName,
      summary: `clients=${options.clients} page=${options.pageKeys}`,
      perSecond: perSecondOf(options),
      create: (context) => new Scans(context, options),
    };
  },
};
