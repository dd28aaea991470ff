// Keys that are written and deleted all the time, and a client that watches them, from one node after
// another: it goes on after the last event that it has, whenever its stream or its node ends. What it
// was told is written down as one operation for each stream; `session` counts how often the watch
// began anew, by a reset. What it must have been told is the business of WATCH-1.

import { HttpGateway, type HttpAnswer, Watcher } from '../../actors/gateway/protocol.ts';
import { refTo } from '../../runtime/actor.ts';
import { noBytes, utf8 } from '../../runtime/bytes.ts';
import type { Prng } from '../../runtime/prng.ts';
import type { ClientAnswer } from '../cluster.ts';
import type { Phase, Told } from '../history.ts';
import type { Settlement, Workload, WorkloadContext, WorkloadKind } from '../workload.ts';
import { ClientLoop, perSecondOf } from './client-loop.ts';
import { HttpClient, parseEtag, type Request } from './http-client.ts';

export const watchWorkloadName = 'watches';
const prefix = 'watch-';
const lastKey = `${prefix}last`;
const timeoutMs = 3_000;
const nobody = { process: -1, client: -1, turn: -1 };
/** What is still on its way when the last change was told has come by then. */
const settleMs = 5_000;

interface WatchOptions {
  readonly clients: number;
  readonly thinkMs: number;
  readonly keys: number;
}

/** A stream that is read. */
interface Stream {
  readonly node: string;
  readonly watch: number;
}

class Watches implements Workload {
  readonly #context: WorkloadContext;
  readonly #options: WatchOptions;
  readonly #client: HttpClient;
  readonly #loop: ClientLoop;
  readonly #random: Prng;
  #writes = 0;
  #lastEventId = '';
  #begins = 0;
  /** Index of the operation that notes what is told now. */
  #noting: number | undefined;
  #told: Told[] = [];
  #hasEnded = false;

  constructor(context: WorkloadContext, options: WatchOptions) {
    this.#context = context;
    this.#options = options;
    this.#random = context.random.fork('watcher');
    this.#client = new HttpClient(context.cluster, context.history, watchWorkloadName);
    const { clients, thinkMs } = options;
    this.#loop = new ClientLoop(context, {
      clients,
      thinkMs,
      draw: (random) => {
        const request = this.#draw(random);
        return async (asker) => (await this.#client.perform(asker, request)).operation.outcome;
      },
    });
  }

  enter(phase: Phase): void {
    this.#client.phase = phase;
  }

  run(): Promise<void> {
    // It goes on until everything has settled.
    void this.#watch();
    return this.#loop.run();
  }

  stop(): void {
    this.#loop.stop();
  }

  async settle(settlement: Settlement): Promise<void> {
    const value = utf8.encode('last');
    const common = { kind: 'put', key: lastKey, level: 'QUORUM', value, timeoutMs } as const;
    await settlement.untilOk('the last change of the watch', async (node) => {
      const { operation } = await this.#client.perform(nobody, { ...common, node });
      return operation;
    });
    await settlement.untilOk('the last change is told', async () => {
      await this.#context.cluster.world.sleep(200);
      const isTold = this.#told.some(({ key }) => key === lastKey);
      return { outcome: isTold ? 'ok' : 'fail', code: 'NOT_TOLD' };
    });
    await this.#context.cluster.world.sleep(settleMs);
    this.#hasEnded = true;
    this.#endNote();
  }

  #draw(random: Prng): Request {
    const { names } = this.#context.cluster;
    const key = `${prefix}${random.int(this.#options.keys)}`;
    const common = { key, node: random.pick(names), level: 'QUORUM', timeoutMs };
    this.#writes += 1;
    if (random.chance(0.2)) return { ...common, kind: 'delete' };
    return { ...common, kind: 'put', value: utf8.encode(`w${this.#writes}`) };
  }

  // ---- the watcher ---------------------------------------------------------------------------

  async #watch(): Promise<void> {
    while (!this.#hasEnded) {
      const stream = await this.#open();
      if (stream === undefined) await this.#context.cluster.world.sleep(300);
      else await this.#follow(stream);
      this.#endNote();
    }
  }

  async #open(): Promise<Stream | undefined> {
    const { cluster } = this.#context;
    const node = this.#random.pick(cluster.names);
    const headers: Record<string, string> =
      this.#lastEventId === '' ? {} : { 'last-event-id': this.#lastEventId };
    const request = { route: 'watch', params: {}, query: { prefix }, headers, body: noBytes };
    const answer: ClientAnswer<HttpAnswer> = await cluster.ask(
      refTo(HttpGateway, node),
      'handle',
      request,
      timeoutMs,
    );
    if (answer.kind !== 'reply' || answer.reply.status !== 200) return undefined;
    return { node, watch: Number(answer.reply.headers['x-watch']) };
  }

  /** Until it ends, or until nobody can tell what became of an answer. */
  async #follow({ node, watch }: Stream): Promise<void> {
    const { cluster } = this.#context;
    if (this.#lastEventId !== '') this.#beginNote();
    while (!this.#hasEnded) {
      const question = { watch, waitMs: 2_000 };
      const answer = await cluster.ask(refTo(Watcher, node), 'next', question, 2_000 + timeoutMs);
      if (answer.kind !== 'reply' || answer.reply.isLast) return;
      for (const block of utf8.decode(answer.reply.bytes).split('\n\n')) this.#note(block);
    }
  }

  #note(block: string): void {
    const fields = new Map<string, string>();
    for (const line of block.split('\n')) {
      const colon = line.indexOf(': ');
      if (colon > 0) fields.set(line.slice(0, colon), line.slice(colon + 2));
    }
    this.#lastEventId = fields.get('id') ?? this.#lastEventId;
    const event = fields.get('event');
    if (event === 'reset' || (event === 'ready' && this.#noting === undefined)) {
      this.#endNote();
      this.#begins += 1;
      this.#beginNote();
    }
    if (event !== 'put' && event !== 'delete') return;
    const { key, etag } = JSON.parse(fields.get('data') ?? '') as Record<'key' | 'etag', string>;
    const parsed = parseEtag(etag);
    if (parsed !== undefined) this.#told.push({ key, etag: parsed });
  }

  #beginNote(): void {
    const { names } = this.#context.cluster;
    const node = names[0] as string;
    const request = { kind: 'watch', key: prefix, node, level: 'QUORUM', timeoutMs } as const;
    this.#noting = this.#client.begin(nobody, { ...request, session: this.#begins });
  }

  #endNote(): void {
    if (this.#noting !== undefined)
      this.#client.end(this.#noting, 'reply', { outcome: 'ok', code: undefined, told: this.#told });
    this.#noting = undefined;
    this.#told = [];
  }
}

export const watchWorkload: WorkloadKind = {
  name: watchWorkloadName,
  prepare: (random) => {
    if (random.chance(0.5)) return undefined;
    const options: WatchOptions = {
      clients: random.between(1, 3),
      thinkMs: random.logUniform(50, 500),
      keys: random.pick([3, 20, 100]),
    };
    return {
      name: watchWorkloadName,
      summary: `clients=${options.clients} keys=${options.keys}`,
      perSecond: perSecondOf(options),
      create: (context) => new Watches(context, options),
    };
  },
};
