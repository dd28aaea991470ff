// Clients that use serial operations: reads, writes, deletes and compare-and-set on registers of few
// values, increments of counters. A register is used for a while and then left for a new one, so
// that the search for an order of its operations stays small.

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
import { type Asker, classify, HttpClient, type Request } from './http-client.ts';

interface SerialOptions {
  readonly clients: number;
  /** Mean pause of a client between two operations, milliseconds. */
  readonly thinkMs: number;
  readonly timeoutMs: number;
}

interface Wanted extends Request {
  readonly expected?: string;
}

const name = 'serial';
const valuesMax = 4;
/** So many turns of each client go to the same registers. */
const turnsPerRegister = 8;
const counters = 2;
const settleTimeoutMs = 10_000;
const settleReads = 4;
const json = { 'content-type': 'application/json' };

export class SerialOperations implements Workload {
  readonly #context: WorkloadContext;
  readonly #options: SerialOptions;
  readonly #client: HttpClient;
  readonly #loop: ClientLoop;
  readonly #turns = new Map<number, number>();

  constructor(context: WorkloadContext, options: SerialOptions) {
    this.#context = context;
    this.#options = options;
    this.#client = new HttpClient(context.cluster, context.history, name);
    const { clients, thinkMs } = options;
    this.#loop = new ClientLoop(context, {
      clients,
      thinkMs,
      draw: (random, client) => {
        const request = this.#draw(random, client);
        return (asker) => this.#perform(asker, request);
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

  /** Every key a few times more: the first read decides what was left open, the others agree. */
  async settle(settlement: Settlement): Promise<void> {
    const operations = this.#context.history.operations.filter((each) => each.workload === name);
    const keys = [...new Set(operations.map(({ key }) => key))].sort();
    await settlement.forEach(keys, async (key) => {
      for (let turn = 0; turn < settleReads; turn += 1) await this.#settleKey(settlement, key);
    });
  }

  #settleKey(settlement: Settlement, key: string): Promise<void> {
    return settlement.untilOk(`get ${key} at SERIAL`, async (node) => {
      const request = { kind: 'get', key, node, level: 'SERIAL' } as const;
      const asker = { process: -1, client: -1, turn: -1 };
      return (await this.#client.perform(asker, { ...request, timeoutMs: settleTimeoutMs }))
        .operation;
    });
  }

  #draw(random: Prng, client: number): Wanted {
    const turn = this.#turns.get(client) ?? 0;
    this.#turns.set(client, turn + 1);
    const node = random.pick(this.#context.cluster.names);
    const common = { node, level: 'SERIAL', timeoutMs: this.#options.timeoutMs };
    const choice = random.float();
    const value = String(random.int(valuesMax));
    const expected = String(random.int(valuesMax));
    if (choice < 0.3)
      return { ...common, kind: 'increment', key: `counter-${random.int(counters)}` };
    const key = `register-${Math.floor(turn / turnsPerRegister)}`;
    if (choice < 0.4) return { ...common, kind: 'get', key, level: 'QUORUM' };
    if (choice < 0.5) return { ...common, kind: 'get', key };
    if (choice < 0.65) return { ...common, kind: 'put', key, value: utf8.encode(value) };
    if (choice < 0.7) return { ...common, kind: 'delete', key };
    return { ...common, kind: 'cas', key, value: utf8.encode(value), expected };
  }

  async #perform(asker: Asker, request: Wanted): Promise<Outcome> {
    const { kind } = request;
    if (kind !== 'cas' && kind !== 'increment')
      return (await this.#client.perform(asker, request)).operation.outcome;
    const index = this.#client.begin(asker, request);
    const answer = await this.#client.send({ ...request, ...sentAs(request) });
    const classified = classify(kind, answer);
    const status = answer.kind === 'reply' ? answer.reply.status : 0;
    const body = answer.kind === 'reply' ? utf8.decode(answer.reply.body) : '';
    const more =
      kind === 'cas' ? { wasMet: status === 200 } : status === 200 ? { value: countOf(body) } : {};
    return this.#client.end(index, answer.kind, { ...classified, ...more }).outcome;
  }
}

/** The request of a kind that has a route of its own. */
function sentAs({ kind, value, expected }: Wanted): Partial<Request> {
  const document =
    kind === 'cas'
      ? `{"expected_value":${expected ?? 'null'},"new_value":${utf8.decode(value ?? new Uint8Array())}}`
      : '{"delta":1}';
  const route = kind === 'cas' ? 'cas' : 'incr';
  return { route, headers: json, value: utf8.encode(document) };
}

const countOf = (body: string): string =>
  String((JSON.parse(body) as { readonly value: number }).value);

export const serialWorkload: WorkloadKind = {
  name,
  prepare: (random): PreparedWorkload | undefined => {
    if (random.chance(0.4)) return undefined;
    const options: SerialOptions = {
      clients: random.between(2, 6),
      thinkMs: random.logUniform(20, 1000),
      timeoutMs: random.pick([1_000, 3_000, 5_000]),
    };
    const { clients, thinkMs, timeoutMs } = options;
    return {
      name,
      summary: `${clients} clients, pause ${thinkMs.toFixed(0)} ms, timeout ${timeoutMs} ms`,
      perSecond: perSecondOf(options),
      create: (context) => new SerialOperations(context, options),
    };
  },
};
