// Clients of keys that keep siblings: they read at one node and write at another what they make of
// it, with the context of the read, with an old one or without any, so that writes of the same key
// are concurrent all the time. Which values may be gone, and which must be, is told by what each
// write had seen (sim/checkers/siblings.ts).

import { storageKey } from '../../actors/model/record.ts';
import { contextOf, liveSiblings, setOf } from '../../actors/model/siblings.ts';
import { Coordinator } from '../../actors/replication/protocol.ts';
import { refTo } from '../../runtime/actor.ts';
import { noBytes, utf8 } from '../../runtime/bytes.ts';
import { errorTable } from '../../runtime/errors.ts';
import type { Prng } from '../../runtime/prng.ts';
import type { ClientAnswer } from '../cluster.ts';
import type { Operation, Outcome, Phase } from '../history.ts';
import type { Settlement, Workload, WorkloadContext, WorkloadKind } from '../workload.ts';
import { ClientLoop, perSecondOf } from './client-loop.ts';
import type { Asker } from './http-client.ts';

export const siblingWorkloadName = 'siblings';
/** A namespace of its own that no catalog gives out: its keys keep siblings from the first write on. */
const namespace = 0x7000_0000;

interface SiblingOptions {
  readonly clients: number;
  readonly keys: number;
  readonly thinkMs: number;
  readonly timeoutMs: number;
  readonly levels: readonly string[];
}

/** What a client has read of a key last. */
interface Seen {
  readonly context: Uint8Array;
  readonly values: readonly string[];
}

interface Wanted {
  readonly kind: 'put' | 'get' | 'delete';
  readonly key: string;
  readonly node: string;
  readonly level: string;
  readonly isBlind: boolean;
}

const nothingSeen: Seen = { context: noBytes, values: [] };

class Siblings implements Workload {
  readonly #context: WorkloadContext;
  readonly #options: SiblingOptions;
  readonly #loop: ClientLoop;
  readonly #seen = new Map<string, Seen>();
  #phase: Phase = 'load';
  #writes = 0;

  constructor(context: WorkloadContext, options: SiblingOptions) {
    this.#context = context;
    this.#options = options;
    this.#loop = new ClientLoop(context, {
      clients: options.clients,
      thinkMs: options.thinkMs,
      draw: (random, client) => {
        const wanted = this.#draw(random);
        return (asker) => this.#perform(asker, wanted, `${client}/${wanted.key}`);
      },
    });
  }

  enter(phase: Phase): void {
    this.#phase = phase;
  }

  run(): Promise<void> {
    return this.#loop.run();
  }

  stop(): void {
    this.#loop.stop();
  }

  async settle(settlement: Settlement): Promise<void> {
    const keys = Array.from({ length: this.#options.keys }, (_, i) => `cart-${i}`);
    const level = settlement.isWhole ? 'ALL' : 'QUORUM';
    await settlement.forEach(keys, async (key) => {
      await settlement.untilOk(`siblings of ${key}`, async (node) => {
        const index = this.#begin({ process: -1, client: -1, turn: -1 }, {
          ...{ kind: 'get', key, node, level, isBlind: true },
        } as const);
        return this.#read(index, `settle/${key}`, 5_000);
      });
      if (settlement.isWhole) await settlement.dump(key, namespace);
    });
  }

  #draw(random: Prng): Wanted {
    const key = `cart-${random.int(this.#options.keys)}`;
    const level = random.pick(this.#options.levels);
    const isBlind = random.chance(0.15);
    const choice = random.float();
    const kind = choice < 0.45 ? 'get' : choice < 0.92 ? 'put' : 'delete';
    const nodes = this.#context.replicasOf(storageKey(namespace, utf8.encode(key)));
    return { kind, key, node: random.pick(nodes), level, isBlind };
  }

  async #perform(asker: Asker, wanted: Wanted, who: string): Promise<Outcome> {
    const { timeoutMs } = this.#options;
    if (wanted.kind === 'get')
      return (await this.#read(this.#begin(asker, wanted), who, timeoutMs)).outcome;
    const seen = wanted.isBlind ? nothingSeen : (this.#seen.get(who) ?? nothingSeen);
    this.#writes += 1;
    const value = wanted.kind === 'put' ? `s${this.#writes}` : undefined;
    const index = this.#begin(asker, wanted, value, seen.values);
    const key = utf8.encode(wanted.key);
    const body = {
      ...{ namespace, key, valueType: 0, ttlMs: 0, level: wanted.level, context: seen.context },
      value: value === undefined ? undefined : utf8.encode(value),
    };
    const to = this.#coordinatorOf(wanted);
    const answer = await this.#context.cluster.ask(to, 'siblingWrite', body, timeoutMs);
    return this.#end(index, answer, {}).outcome;
  }

  async #read(index: number, who: string, timeoutMs: number): Promise<Operation> {
    const { key, node, level } = this.#operation(index);
    const body = { namespace, key: utf8.encode(key), level, explain: false };
    const to = this.#coordinatorOf({ key, node });
    const answer = await this.#context.cluster.ask(to, 'read', body, timeoutMs);
    if (answer.kind !== 'reply') return this.#end(index, answer, {});
    const { record, nowMs } = answer.reply;
    const values = liveSiblings(setOf(record), nowMs).map(({ value }) => utf8.decode(value));
    // What is not live has no context for its reader: a write after it has seen nothing.
    this.#seen.set(who, { context: contextOf(record), values });
    return this.#end(index, answer, { siblings: values });
  }

  #coordinatorOf({
    key,
    node,
  }: Pick<Wanted, 'key' | 'node'>): ReturnType<typeof refTo<Coordinator>> {
    const shard = this.#context.shardAt(node, storageKey(namespace, utf8.encode(key)));
    return refTo(Coordinator, node, shard);
  }

  #begin(asker: Asker, wanted: Wanted, value?: string, siblings?: readonly string[]): number {
    const { kind, key, node, level } = wanted;
    return this.#context.history.invoke({
      ...asker,
      workload: siblingWorkloadName,
      ...{ kind, key, node, level, value },
      phase: this.#phase,
      invokedMs: this.#context.cluster.world.nowMs,
      ...(siblings === undefined ? {} : { siblings }),
    });
  }

  #end(
    index: number,
    answer: ClientAnswer<unknown>,
    more: Partial<Pick<Operation, 'siblings'>>,
  ): Operation {
    const { history, cluster } = this.#context;
    const returnedMs = answer.kind === 'lost' ? undefined : cluster.world.nowMs;
    history.complete(index, { ...outcomeOf(answer), returnedMs, ...more });
    return this.#operation(index);
  }

  #operation(index: number): Operation {
    return this.#context.history.operations[index] as Operation;
  }
}

function outcomeOf(answer: ClientAnswer<unknown>): Pick<Operation, 'outcome' | 'code'> {
  if (answer.kind === 'reply') return { outcome: 'ok', code: undefined };
  if (answer.kind === 'refused') return { outcome: 'fail', code: 'REFUSED' };
  if (answer.kind === 'lost') return { outcome: 'info', code: 'LOST' };
  const { code } = answer.failure;
  return { outcome: errorTable[code].effect === 'none' ? 'fail' : 'info', code };
}

export const siblingWorkload: WorkloadKind = {
  name: siblingWorkloadName,
  prepare: (random) => {
    if (random.chance(0.5)) return undefined;
    const options: SiblingOptions = {
      clients: random.between(2, 5),
      keys: random.pick([1, 3, 20]),
      thinkMs: random.logUniform(50, 500),
      timeoutMs: random.pick([1_000, 3_000]),
      levels: random.pick([['QUORUM'], ['ONE', 'QUORUM'], ['ONE', 'QUORUM', 'ALL']]),
    };
    const { clients, keys, levels } = options;
    return {
      name: siblingWorkloadName,
      summary: `clients=${clients} keys=${keys} levels=${levels.join('/')}`,
      perSecond: perSecondOf(options),
      create: (context) => new Siblings(context, options),
    };
  },
};
