// Two namespaces that come and go while clients use them: one hand creates, alters (also how their
// tables are merged and packed) and drops each of them, the clients put and get the same few keys in both at a quorum. Every value is put once, and
// keys are written down with the name of their namespace in front, so that a value of one that is
// seen in the other is one that was never written there.
//
// After a drop whose outcome nobody knows its name is left alone: it may take effect at any time.

import { compactionStrategies, compressions } from '../../actors/model/table-choices.ts';
import { utf8 } from '../../runtime/bytes.ts';
import type { Prng } from '../../runtime/prng.ts';
import type { Outcome, Phase } from '../history.ts';
import type {
  PreparedWorkload,
  Settlement,
  Workload,
  WorkloadContext,
  WorkloadKind,
} from '../workload.ts';
import { ClientLoop, perSecondOf } from './client-loop.ts';
import { type Asker, HttpClient, type Request } from './http-client.ts';

interface NamespaceOptions {
  readonly clients: number;
  /** Mean pause of a client between two operations, milliseconds. */
  readonly thinkMs: number;
  /** Of the hands: how many pauses of a client lie between two changes. */
  readonly changeEvery: number;
  readonly timeoutMs: number;
}

const name = 'namespaces';
const sides = ['left', 'right'] as const;
const keyCount = 4;
const settleTimeoutMs = 10_000;
/** A change waits until enough nodes act by it. */
const changeTimeoutMs = 8_000;
const json = { 'content-type': 'application/json' };

interface Side {
  readonly side: string;
  /** Names that were used up. */
  lives: number;
  /** As far as its hand knows. */
  isThere: boolean;
}

export class NamespaceOperations implements Workload {
  readonly #context: WorkloadContext;
  readonly #options: NamespaceOptions;
  readonly #client: HttpClient;
  readonly #loop: ClientLoop;
  readonly #sides: readonly Side[] = sides.map((side) => ({ side, lives: 0, isThere: false }));
  #writes = 0;

  constructor(context: WorkloadContext, options: NamespaceOptions) {
    this.#context = context;
    this.#options = options;
    this.#client = new HttpClient(context.cluster, context.history, name);
    const { clients, thinkMs } = options;
    this.#loop = new ClientLoop(context, {
      // The first ones are the hands.
      clients: sides.length + clients,
      thinkMs,
      draw: (random, client) => this.#draw(random, client),
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

  /** Every key of what is there is read. */
  async settle(settlement: Settlement): Promise<void> {
    const asker = { process: -1, client: -1, turn: -1 };
    for (const side of this.#sides.filter(({ isThere }) => isThere)) {
      const keys = Array.from({ length: keyCount }, (_, i) => `${nameOf(side)}:k${i}`);
      await settlement.forEach(keys, (key) =>
        settlement.untilOk(`get ${key}`, async (node) => {
          const request = { kind: 'get', key, node, level: 'QUORUM' } as const;
          const timeoutMs = settleTimeoutMs;
          return (await this.#client.perform(asker, { ...request, ...terms(key), timeoutMs }))
            .operation;
        }),
      );
    }
  }

  #draw(random: Prng, client: number): (asker: Asker) => Promise<Outcome> {
    const node = random.pick(this.#context.cluster.names);
    const side = this.#sides[client];
    const choice = random.float();
    const where = random.pick(this.#sides);
    const key = `k${random.int(keyCount)}`;
    if (side !== undefined)
      return async (asker) => {
        if (choice * this.#options.changeEvery > 1) return 'ok';
        const isAlter = choice * this.#options.changeEvery < 0.3;
        const kind = !side.isThere ? 'create' : isAlter ? 'alter' : 'drop';
        return this.#change(asker, side, kind, { node, tables: tablesBy(choice) });
      };
    this.#writes += 1;
    const value = utf8.encode(`w${this.#writes}`);
    return (asker) =>
      this.#use(asker, `${nameOf(where)}:${key}`, node, choice < 0.5 ? value : undefined);
  }

  async #use(
    asker: Asker,
    key: string,
    node: string,
    value: Uint8Array | undefined,
  ): Promise<Outcome> {
    const { timeoutMs } = this.#options;
    const kind = value === undefined ? 'get' : 'put';
    const request = { kind, key, node, level: 'QUORUM', value, timeoutMs } as const;
    return (await this.#client.perform(asker, { ...request, ...terms(key) })).operation.outcome;
  }

  async #change(
    asker: Asker,
    side: Side,
    kind: 'create' | 'alter' | 'drop',
    { node, tables }: { readonly node: string; readonly tables: object },
  ): Promise<Outcome> {
    const namespace = nameOf(side);
    const request: Request = {
      ...{ kind, key: namespace, node, level: 'SERIAL', timeoutMs: changeTimeoutMs },
      ...changeOf(kind, namespace, tables),
    };
    const { operation, answer } = await this.#client.perform(asker, request);
    const { outcome } = operation;
    const status = answer?.status;
    if (kind === 'create' && (status === 200 || status === 409)) {
      side.isThere = true;
      return 'ok';
    }
    if (status === 404) side.isThere = false;
    if (kind === 'drop') endLife(side, status === 200, outcome);
    return outcome;
  }
}

/** A name whose drop has an unknown end is not used again. */
function endLife(side: Side, isDone: boolean, outcome: Outcome): void {
  if (isDone || outcome === 'info') side.isThere = false;
  if (outcome === 'info') side.lives += 1;
}

const nameOf = ({ side, lives }: Side): string => `${side}-${lives}`;

/** The headers and parameters of a request on a key as it is written down. */
function terms(key: string): Pick<Request, 'headers' | 'params'> {
  const [namespace = '', own = ''] = key.split(':');
  return { headers: { 'x-namespace': namespace }, params: { key: own } };
}

/** How tables are kept, by the digits of a number from 0 to 1. */
function tablesBy(choice: number): object {
  const digits = Math.floor(choice * 1e9);
  const words = ['', ...compactionStrategies];
  const codecs = ['', ...compressions];
  return {
    compaction: words[digits % words.length],
    compression: codecs[Math.floor(digits / 100) % codecs.length],
  };
}

function changeOf(
  kind: 'create' | 'alter' | 'drop',
  namespace: string,
  tables: object,
): Partial<Request> {
  const route = `namespace-${kind}`;
  if (kind === 'drop') return { route, params: { name: namespace }, query: { confirm: namespace } };
  const document =
    kind === 'create' ? { name: namespace, ...tables } : { owner: 'somebody', ...tables };
  const value = utf8.encode(JSON.stringify(document));
  return { route, params: { name: namespace }, headers: json, value };
}

export const namespaceWorkload: WorkloadKind = {
  name,
  prepare: (random): PreparedWorkload | undefined => {
    if (random.chance(0.5)) return undefined;
    const options: NamespaceOptions = {
      clients: random.between(2, 5),
      thinkMs: random.logUniform(20, 300),
      changeEvery: random.between(10, 60),
      timeoutMs: random.pick([1_000, 3_000, 5_000]),
    };
    const { clients, thinkMs, changeEvery } = options;
    return {
      name,
      summary: `${clients} clients, pause ${thinkMs.toFixed(0)} ms, a change every ${changeEvery}`,
      perSecond: perSecondOf(options),
      create: (context) => new NamespaceOperations(context, options),
    };
  },
};
