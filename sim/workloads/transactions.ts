// Clients that move money between accounts of one hash tag by MULTI and EXEC, with WATCH and without,
// beside others that read: one account at a quorum, or all of them in a transaction. Every transaction
// that writes appends its name to a log under the same tag, so the log is the order in which they
// happened; sim/checkers/transactions.ts plays it again. After some turns all go to a new tag.

import type { Prng } from '../../runtime/prng.ts';
import type { Outcome, Phase, TransactionFacts } from '../history.ts';
import type { Settlement, Workload, WorkloadContext, WorkloadKind } from '../workload.ts';
import { ClientLoop, perSecondOf } from './client-loop.ts';
import type { Asker } from './http-client.ts';
import { type Answer, type Answered, isError, outcomeOfError, RespClient } from './resp-client.ts';

export const transactionWorkloadName = 'transactions';
export const accounts = 4;
/** Bytes of a name in the log. */
export const nameLength = 8;
const turnsPerTag = 40;
const settleTimeoutMs = 10_000;

interface TransactionOptions {
  readonly clients: number;
  readonly thinkMs: number;
  readonly timeoutMs: number;
}

interface Wanted {
  readonly facts: TransactionFacts;
  readonly tag: string;
  readonly node: string;
}

export const accountOf = (tag: string, i: number): string => `{${tag}}account-${i}`;
const logOf = (tag: string): string => `{${tag}}log`;
/** Written by single plain SETs, and watched. */
const noteOf = (tag: string): string => `{${tag}}note`;

class Transactions implements Workload {
  readonly #context: WorkloadContext;
  readonly #options: TransactionOptions;
  readonly #loop: ClientLoop;
  readonly #client: RespClient;
  readonly #turns = new Map<number, number>();
  readonly #tags = new Set<string>();
  #phase: Phase = 'load';
  #names = 0;

  constructor(context: WorkloadContext, options: TransactionOptions) {
    this.#context = context;
    this.#options = options;
    this.#client = new RespClient(context.cluster);
    this.#loop = new ClientLoop(context, {
      clients: options.clients,
      thinkMs: options.thinkMs,
      draw: (random, client) => {
        const wanted = this.#draw(random, client);
        return (asker) => this.#perform(asker, wanted);
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

  /** What every tag has come to. */
  async settle(settlement: Settlement): Promise<void> {
    const asker = { process: -1, client: -1, turn: -1 };
    await settlement.forEach([...this.#tags].sort(), (tag) =>
      settlement.untilOk(`the end of ${tag}`, async (node) => {
        const facts = newFacts('snapshot', 0, 0, 0);
        const index = await this.#run(asker, { facts, tag, node }, settleTimeoutMs);
        const { outcome = 'info', code } = this.#context.history.operations[index] ?? {};
        return { outcome, code };
      }),
    );
  }

  #draw(random: Prng, client: number): Wanted {
    const turn = this.#turns.get(client) ?? 0;
    this.#turns.set(client, turn + 1);
    const tag = `bank-${Math.floor(turn / turnsPerTag)}`;
    const node = random.pick(this.#context.cluster.names);
    const from = random.int(accounts);
    const to = (from + 1 + random.int(accounts - 1)) % accounts;
    const amount = 1 + random.int(1_000_000);
    const choice = random.float();
    const kind =
      choice < 0.25
        ? 'transfer'
        : choice < 0.55
          ? 'watched'
          : choice < 0.7
            ? 'snapshot'
            : choice < 0.8
              ? 'get'
              : choice < 0.9
                ? 'note'
                : 'noted';
    return { facts: newFacts(kind, from, to, amount), tag, node };
  }

  async #perform(asker: Asker, wanted: Wanted): Promise<Outcome> {
    this.#tags.add(wanted.tag);
    const index = await this.#run(asker, wanted, this.#options.timeoutMs);
    return this.#context.history.operations[index]?.outcome ?? 'info';
  }

  /** The index of the operation in the history, where it has ended. */
  async #run(asker: Asker, { facts, tag, node }: Wanted, timeoutMs: number): Promise<number> {
    const { cluster, history } = this.#context;
    this.#names += 1;
    const transaction = { ...facts, name: String(this.#names).padStart(nameLength, '0') };
    const index = history.invoke({
      ...asker,
      ...{ workload: transactionWorkloadName, kind: 'transaction', key: tag, node, transaction },
      ...{ level: 'SERIAL', phase: this.#phase, invokedMs: cluster.world.nowMs, value: undefined },
    });
    const exchange = this.#client.connect(node);
    const run = (...commands: readonly (readonly string[])[]): Promise<Answered> =>
      exchange.run(commands, timeoutMs);
    const ended = await perform[transaction.kind](tag, transaction, run);
    exchange.close();
    const returnedMs = ended.outcome === 'info' ? undefined : cluster.world.nowMs;
    history.complete(index, { ...ended, returnedMs });
    return index;
  }
}

const newFacts = (
  kind: TransactionFacts['kind'],
  from: number,
  to: number,
  amount: number,
): TransactionFacts => ({
  ...{ kind, from, to, amount, name: '' },
  ...{ found: [], place: undefined, log: undefined, isDone: false },
});

// ---- what each kind does -----------------------------------------------------------------------

interface Ended {
  readonly outcome: Outcome;
  readonly code: string | undefined;
  readonly transaction: TransactionFacts;
}

type Run = (...commands: readonly (readonly string[])[]) => Promise<Answered>;
type Perform = (tag: string, facts: TransactionFacts, run: Run) => Promise<Ended>;

/** The answers of EXEC; an end where there are none. */
function executed(
  { outcome, code, answers }: Answered,
  facts: TransactionFacts,
): readonly Answer[] | Ended {
  if (outcome !== 'ok') return { outcome, code, transaction: facts };
  const last = answers.at(-1);
  if (isError(last)) return { ...outcomeOfError(last), transaction: facts };
  if (last === null) return { outcome: 'ok', code: 'NIL', transaction: facts };
  return last as readonly Answer[];
}

const isEnded = (value: readonly Answer[] | Ended): value is Ended => !Array.isArray(value);
const textOf = (answer: Answer | undefined): string =>
  isError(answer)
    ? answer.error
    : Array.isArray(answer)
      ? answer.join()
      : `${(answer as string | number | null) ?? 0}`;
const placeOf = (length: Answer | undefined): number => Number(length) / nameLength;

function done(facts: TransactionFacts, seen: Partial<TransactionFacts>): Ended {
  return { outcome: 'ok', code: undefined, transaction: { ...facts, ...seen, isDone: true } };
}

/** What was read before a transaction; an end where it could not be. */
function read(
  { outcome, answers, code }: Answered,
  facts: TransactionFacts,
): readonly string[] | Ended {
  const problem = answers.find(isError);
  // Nothing was written yet, whatever became of it.
  if (outcome !== 'ok' || problem !== undefined)
    return { outcome: 'fail', code: code ?? problem?.error, transaction: facts };
  return answers.slice(1).map(textOf);
}

const isReadEnd = (value: readonly string[] | Ended): value is Ended => !Array.isArray(value);

const perform: Readonly<Record<TransactionFacts['kind'], Perform>> = {
  /** Adds and takes without having looked. */
  transfer: async (tag, facts, run) => {
    const ended = executed(
      await run(
        ['MULTI'],
        ['APPEND', logOf(tag), facts.name],
        ['DECRBY', accountOf(tag, facts.from), String(facts.amount)],
        ['INCRBY', accountOf(tag, facts.to), String(facts.amount)],
        ['EXEC'],
      ),
      facts,
    );
    if (isEnded(ended)) return ended;
    const [length, ...left] = ended;
    return done(facts, { place: placeOf(length), found: left.map(textOf) });
  },

  /** Looks, computes, and writes where nothing has changed. */
  watched: async (tag, facts, run) => {
    const names = [accountOf(tag, facts.from), accountOf(tag, facts.to)];
    const found = read(
      await run(['WATCH', ...names], ...names.map((name) => ['GET', name])),
      facts,
    );
    if (isReadEnd(found)) return found;
    const before = { ...facts, found };
    const [from, to] = found.map(Number) as [number, number];
    const ended = executed(
      await run(
        ['MULTI'],
        ['SET', names[0] ?? '', String(from - facts.amount)],
        ['SET', names[1] ?? '', String(to + facts.amount)],
        ['APPEND', logOf(tag), facts.name],
        ['EXEC'],
      ),
      before,
    );
    if (isEnded(ended)) return ended;
    return done(before, { place: placeOf(ended[2]) });
  },

  /** All of a tag at one moment. */
  snapshot: async (tag, facts, run) => {
    const all = Array.from({ length: accounts }, (_, i) => accountOf(tag, i));
    const ended = executed(
      await run(['MULTI'], ['GET', logOf(tag)], ['MGET', ...all], ['EXEC']),
      facts,
    );
    if (isEnded(ended)) return ended;
    const log = ended[0] === null ? '' : textOf(ended[0]);
    const found = (ended[1] as readonly Answer[]).map(textOf);
    return done(facts, { log, place: log.length / nameLength, found });
  },

  /** One account, at a quorum and in no transaction. */
  get: async (tag, facts, run) => {
    const { outcome, code, answers } = await run(['GET', accountOf(tag, facts.from)]);
    const [answer] = answers;
    if (outcome !== 'ok' || isError(answer))
      return { outcome: 'fail', code: code ?? textOf(answer), transaction: facts };
    return done(facts, { found: [textOf(answer)] });
  },

  /** A plain write of what others watch. */
  note: async (tag, facts, run) => {
    const { outcome, code, answers } = await run(['SET', noteOf(tag), facts.name]);
    const [answer] = answers;
    if (outcome !== 'ok') return { outcome, code, transaction: facts };
    if (isError(answer)) return { ...outcomeOfError(answer), transaction: facts };
    return done(facts, {});
  },

  /** Is done only where the note is still the one that was read. */
  noted: async (tag, facts, run) => {
    const note = noteOf(tag);
    const found = read(await run(['WATCH', note], ['GET', note]), facts);
    if (isReadEnd(found)) return found;
    const before = { ...facts, found };
    const ended = executed(
      await run(['MULTI'], ['APPEND', logOf(tag), facts.name], ['GET', note], ['EXEC']),
      before,
    );
    if (isEnded(ended)) return ended;
    return done(before, { place: placeOf(ended[0]), found: [...found, textOf(ended[1])] });
  },
};

export const transactionWorkload: WorkloadKind = {
  name: transactionWorkloadName,
  prepare: (random) => {
    if (random.chance(0.5)) return undefined;
    const options: TransactionOptions = {
      clients: random.between(2, 6),
      thinkMs: random.logUniform(20, 800),
      timeoutMs: random.pick([1_000, 3_000, 6_000]),
    };
    const { clients, thinkMs, timeoutMs } = options;
    return {
      name: transactionWorkloadName,
      summary: `${clients} clients, pause ${thinkMs.toFixed(0)} ms, timeout ${timeoutMs} ms`,
      perSecond: perSecondOf(options),
      create: (context) => new Transactions(context, options),
    };
  },
};
