// Clients that write atomic batches: each batch puts one value, its own, under several keys of a small
// set, so that batches overlap. In the end every key is read; what each batch has become is judged by
// sim/checkers/batches.ts.

import { BatchKeeper, BatchWriter } from '../../actors/replication/protocol.ts';
import { refTo } from '../../runtime/actor.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { errorTable } from '../../runtime/errors.ts';
import type { Prng } from '../../runtime/prng.ts';
import type { ClientAnswer } from '../cluster.ts';
import { type Operation, type Outcome, type Phase, valueText } from '../history.ts';
import type { Settlement, Workload, WorkloadContext, WorkloadKind } from '../workload.ts';
import { ClientLoop, perSecondOf } from './client-loop.ts';
import { type Asker, HttpClient, parseEtag } from './http-client.ts';

export const batchWorkloadName = 'batches';

interface BatchOptions {
  readonly clients: number;
  readonly keys: number;
  readonly thinkMs: number;
  readonly timeoutMs: number;
  readonly level: string;
  /** All keys have one hash tag: each replica takes a batch as one record. */
  readonly isTagged: boolean;
}

const nameOf = ({ isTagged }: BatchOptions, i: number): string =>
  isTagged ? `{batches}-${i}` : `batch-${i}`;

interface Wanted {
  readonly keys: readonly string[];
  readonly node: string;
}

class Batches implements Workload {
  readonly #context: WorkloadContext;
  readonly #options: BatchOptions;
  readonly #loop: ClientLoop;
  readonly #client: HttpClient;
  #phase: Phase = 'load';
  #batches = 0;

  constructor(context: WorkloadContext, options: BatchOptions) {
    this.#context = context;
    this.#options = options;
    this.#client = new HttpClient(context.cluster, context.history, batchWorkloadName);
    this.#loop = new ClientLoop(context, {
      clients: options.clients,
      thinkMs: options.thinkMs,
      draw: (random) => {
        const wanted = this.#draw(random);
        return (asker) => this.#perform(asker, wanted);
      },
    });
  }

  enter(phase: Phase): void {
    this.#phase = phase;
    this.#client.phase = phase;
  }

  run(): Promise<void> {
    return this.#loop.run();
  }

  stop(): void {
    this.#loop.stop();
  }

  /** When no log holds a batch any more, every key is read. */
  async settle(settlement: Settlement): Promise<void> {
    // A log waits for a node that is gone for good.
    for (const node of settlement.isWhole ? settlement.nodes : [])
      await settlement.untilOk(`end of all batches on ${node}`, () => this.#isLogEmpty(node));
    const keys = Array.from({ length: this.#options.keys }, (_, i) => nameOf(this.#options, i));
    const level = settlement.isWhole ? 'ALL' : 'QUORUM';
    await settlement.forEach(keys, async (key) => {
      await settlement.untilOk(`get ${key} at ${level}`, async (node) => {
        const asker = { process: -1, client: -1, turn: -1 };
        const request = { kind: 'get', key, node, level, timeoutMs: 5_000 } as const;
        return (await this.#client.perform(asker, request)).operation;
      });
    });
  }

  async #isLogEmpty(node: string): Promise<Pick<Operation, 'outcome' | 'code'>> {
    const answer = await this.#context.cluster.ask(refTo(BatchKeeper, node), 'stats', {}, 5_000);
    if (answer.kind !== 'reply') return { outcome: 'info', code: 'LOST' };
    const isEmpty = answer.reply.batches === 0;
    return { outcome: isEmpty ? 'ok' : 'fail', code: isEmpty ? undefined : 'BATCHES_WAIT' };
  }

  #draw(random: Prng): Wanted {
    const { keys } = this.#options;
    const first = random.int(keys);
    const count = Math.min(keys, random.between(2, 4));
    const node = random.pick(this.#context.cluster.names);
    const name = (i: number): string => nameOf(this.#options, (first + i) % keys);
    return { node, keys: Array.from({ length: count }, (_, i) => name(i)) };
  }

  async #perform(asker: Asker, { keys, node }: Wanted): Promise<Outcome> {
    const { level, timeoutMs } = this.#options;
    const { cluster, history } = this.#context;
    this.#batches += 1;
    const value = `b${this.#batches}`;
    const bytes = utf8.encode(value);
    const index = history.invoke({
      ...asker,
      workload: batchWorkloadName,
      kind: 'batch',
      key: keys.join(),
      ...{ node, level, keys, phase: this.#phase },
      invokedMs: cluster.world.nowMs,
      value: valueText(bytes),
    });
    const operations = keys.map((key) => ({
      ...{ key: utf8.encode(key), value: bytes, valueType: 0, ttlMs: 0 },
    }));
    const body = { namespace: 0, operations, afterHlc: 0, level };
    const answer = await cluster.ask(refTo(BatchWriter, node), 'run', body, timeoutMs);
    const returnedMs = answer.kind === 'lost' ? undefined : cluster.world.nowMs;
    history.complete(index, { ...outcomeOf(answer), returnedMs });
    return history.operations[index]?.outcome ?? 'info';
  }
}

type Answer = ClientAnswer<{ readonly results: readonly Operation['etag'][] }>;

function outcomeOf(answer: Answer): Pick<Operation, 'outcome' | 'code'> & Partial<Operation> {
  if (answer.kind === 'refused') return { outcome: 'fail', code: 'REFUSED' };
  if (answer.kind === 'lost') return { outcome: 'info', code: 'LOST' };
  if (answer.kind === 'reply') {
    const [etag] = answer.reply.results;
    return { outcome: 'ok', code: undefined, ...(etag === undefined ? {} : { etag }) };
  }
  const { code, fields } = answer.failure;
  const outcome = errorTable[code].effect === 'none' ? 'fail' : 'info';
  const etag = fields['willComplete'] === true ? parseEtag(String(fields['etag'])) : undefined;
  return { outcome, code, ...(etag === undefined ? {} : { etag }) };
}

export const batchWorkload: WorkloadKind = {
  name: batchWorkloadName,
  prepare: (random) => {
    if (random.chance(0.5)) return undefined;
    const options: BatchOptions = {
      clients: random.between(1, 4),
      keys: random.pick([3, 8, 40]),
      thinkMs: random.logUniform(100, 800),
      timeoutMs: random.pick([300, 1_000, 3_000]),
      level: random.pick(['ONE', 'QUORUM', 'QUORUM', 'ALL']),
      isTagged: random.chance(0.25),
    };
    const { clients, keys, level, timeoutMs, isTagged } = options;
    return {
      name: batchWorkloadName,
      summary: `clients=${clients} keys=${keys} level=${level} timeout=${timeoutMs}ms${isTagged ? ' tagged' : ''}`,
      perSecond: perSecondOf(options),
      create: (context) => new Batches(context, options),
    };
  },
};
