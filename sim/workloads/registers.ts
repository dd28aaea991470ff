// Clients that put, get and delete a few keys at different levels through any node. Values are
// unique where their size allows it.

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

type RegisterKind = 'put' | 'get' | 'delete';

export interface RegisterOptions {
  readonly clients: number;
  readonly keys: readonly string[];
  /** Sizes of values, bytes; drawn for each put. */
  readonly valueBytes: readonly number[];
  /** Levels for reads and writes; drawn for each operation. */
  readonly levels: readonly string[];
  /** Relative weights of the three kinds. */
  readonly weights: Readonly<Record<RegisterKind, number>>;
  /** Mean pause of a client between two operations, milliseconds. */
  readonly thinkMs: number;
  /** How long a client waits for its answer, milliseconds. */
  readonly timeoutMs: number;
  /** Now and then so many clients read the same at the same moment; 1: never. */
  readonly crowd: number;
}

/** Of the reads. */
const crowdRatio = 0.1;

const name = 'registers';
/** Of reads at the end. */
const settleTimeoutMs = 5_000;

export class Registers implements Workload {
  readonly #context: WorkloadContext;
  readonly #options: RegisterOptions;
  readonly #client: HttpClient;
  readonly #loop: ClientLoop;
  #writes = 0;

  constructor(context: WorkloadContext, options: RegisterOptions) {
    this.#context = context;
    this.#options = options;
    this.#client = new HttpClient(context.cluster, context.history, name);
    const { clients, thinkMs } = options;
    this.#loop = new ClientLoop(context, {
      clients,
      thinkMs,
      draw: (random) => {
        const request = this.#draw(random);
        const readers = this.#readers(random, request);
        return (asker) => this.#perform(asker, request, readers);
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

  /** Every key at a quorum and at all replicas, then a look at each replica. */
  async settle(settlement: Settlement): Promise<void> {
    const operations = this.#context.history.operations.filter((each) => each.workload === name);
    const keys = [...new Set(operations.map(({ key }) => key))].sort();
    await settlement.forEach(keys, async (key) => {
      await this.#untilOk(settlement, { kind: 'get', key, level: 'QUORUM' });
      if (!settlement.isWhole) return;
      await this.#untilOk(settlement, { kind: 'get', key, level: 'ALL' });
      await settlement.dump(key);
    });
  }

  #untilOk(settlement: Settlement, wanted: Pick<Request, 'kind' | 'key' | 'level'>): Promise<void> {
    const { kind, key, level } = wanted;
    const asker = { process: -1, client: -1, turn: -1 };
    return settlement.untilOk(`${kind} ${key} at ${level}`, async (node) => {
      const request = { ...wanted, node, timeoutMs: settleTimeoutMs };
      return (await this.#client.perform(asker, request)).operation;
    });
  }

  /** Who reads beside the client are others, which end with it. */
  async #perform(asker: Asker, request: Request, readers: number): Promise<Outcome> {
    const askers = [asker];
    while (askers.length < readers) askers.push({ ...asker, process: this.#loop.newProcess() });
    const all = await Promise.all(askers.map((each) => this.#client.perform(each, request)));
    const outcomes = all.map(({ operation }) => operation.outcome);
    return outcomes[0] ?? 'info';
  }

  #readers(random: Prng, { kind }: Request): number {
    const { crowd } = this.#options;
    return kind === 'get' && crowd > 1 && random.chance(crowdRatio) ? crowd : 1;
  }

  #draw(random: Prng): Request {
    const { keys, levels, timeoutMs } = this.#options;
    const kind = this.#drawKind(random);
    return {
      kind,
      key: random.pick(keys),
      node: random.pick(this.#context.cluster.names),
      level: random.pick(levels),
      value: kind === 'put' ? this.#newValue(random) : undefined,
      timeoutMs,
    };
  }

  #drawKind(random: Prng): RegisterKind {
    const { weights } = this.#options;
    let at = random.float() * (weights.put + weights.get + weights.delete);
    for (const kind of ['put', 'get', 'delete'] as const) {
      if (at < weights[kind]) return kind;
      at -= weights[kind];
    }
    return 'get';
  }

  #newValue(random: Prng): Uint8Array {
    this.#writes += 1;
    const value = new Uint8Array(random.pick(this.#options.valueBytes)).fill(0x2e);
    value.set(utf8.encode(`w${this.#writes}`).subarray(0, value.length));
    return value;
  }
}

function drawOptions(random: Prng): RegisterOptions {
  const keys = random.pick([1, 4, 4, 64, 64, 1_000]);
  const reads = 0.05 + random.float() * 0.9;
  const deletes = random.chance(0.3) ? 0 : random.float() * 0.3;
  const levels = ['ONE', 'QUORUM', 'QUORUM', 'QUORUM', 'ALL'].filter(
    (level) => level === 'QUORUM' || random.chance(0.7),
  );
  return {
    clients: random.between(2, 8),
    keys: Array.from({ length: keys }, (_, i) => `key-${i}`),
    valueBytes: random.pick([
      [100],
      [20, 100, 5_000],
      [5_000],
      [0, 1, 100],
      [0, 1, 20, 100, 5_000],
    ]),
    levels,
    weights: { get: reads, delete: (1 - reads) * deletes, put: (1 - reads) * (1 - deletes) },
    thinkMs: random.logUniform(20, 400),
    timeoutMs: random.pick([300, 1_000, 3_000]),
    crowd: random.pick([1, 1, 1, 4, 12]),
  };
}

export function prepareRegisters(options: RegisterOptions): PreparedWorkload {
  const { clients, keys, levels, crowd } = options;
  return {
    name,
    summary: `clients=${clients} keys=${keys.length} levels=${levels.join('/')} crowd=${crowd}`,
    perSecond: perSecondOf(options) * (1 + crowdRatio * (crowd - 1)),
    create: (context) => new Registers(context, options),
  };
}

export const registerWorkload: WorkloadKind = {
  name,
  prepare: (random) => prepareRegisters(drawOptions(random)),
};
