// TX-1: transactions of one hash tag are strictly serializable, and WATCH is kept.
//
// The last snapshot of a tag has the log of all its transactions, in their order. It is played again:
//
//   log        every done transaction stands there once and at the place that it was told, no refused
//              one does; what an earlier snapshot saw is a beginning of it
//   values     what each was told, it finds in the state before or after its place
//   time       what began after another had ended stands behind it
//   watch      one that was watched finds unchanged what it had read; one that was given up for a
//              watched key had a writer of that key beside it
//   reads      a plain read at a quorum shows a state between what had ended before it began and what
//              had begun before it ended
//   notes      a plain write that had ended is seen by whoever watches after it, and never undone,
//              but by one with a higher stamp
//
// Where a disk was lost or damaged an acceptor may have forgotten what it promised (CO-4), so such a
// run proves nothing about them.

import type { Checker } from '../checker.ts';
import { byKey, type Operation, type TransactionFacts } from '../history.ts';
import type { Violation } from './violation.ts';

const nameLength = 8;
const accounts = 4;

export const transactionChecker: Checker = {
  id: 'TX-1',
  check: ({ of, lostCopies, isRefilled, clockErrorMs }) => {
    if (lostCopies > 0 && !isRefilled) return { judged: 0, violations: [] };
    const operations = of('transactions');
    return { judged: operations.length, violations: checkTransactions(operations, clockErrorMs) };
  },
};

interface Known extends Operation {
  readonly transaction: TransactionFacts;
}

/** `clockErrorMs`: how far any clock was from the true time. */
export function checkTransactions(operations: readonly Operation[], clockErrorMs = 0): Violation[] {
  return [...byKey(operations)].flatMap(([tag, ofTag]) => {
    const known = ofTag.filter((one): one is Known => one.transaction !== undefined);
    const last = known.findLast(
      ({ phase, outcome, transaction }) =>
        phase === 'final' && outcome === 'ok' && transaction.kind === 'snapshot',
    );
    return last === undefined ? [] : new Replay(tag, known, last, clockErrorMs).violations();
  });
}

const endOf = ({ returnedMs }: Operation): number => returnedMs ?? Infinity;
const isWriter = ({ transaction: { kind } }: Known): boolean =>
  kind === 'transfer' || kind === 'watched' || kind === 'noted';

class Replay {
  readonly #tag: string;
  readonly #operations: readonly Known[];
  readonly #last: Known;
  readonly #clockErrorMs: number;
  readonly #violations: Violation[] = [];
  /** Names in their order, and who they are. */
  readonly #log: readonly string[];
  readonly #byName: ReadonlyMap<string, Known>;
  /** Balances after so many transactions. */
  readonly #states: (readonly number[])[] = [Array.from({ length: accounts }, () => 0)];
  /** The latest start of the first n of the log. */
  readonly #places: ReadonlyMap<string, number>;

  constructor(tag: string, operations: readonly Known[], last: Known, clockErrorMs: number) {
    this.#tag = tag;
    this.#clockErrorMs = clockErrorMs;
    this.#operations = operations;
    this.#last = last;
    const { log = '' } = last.transaction;
    const length = Math.ceil(log.length / nameLength);
    this.#log = Array.from({ length }, (_, i) => log.slice(i * nameLength, (i + 1) * nameLength));
    this.#places = new Map(this.#log.map((name, i) => [name, i + 1]));
    this.#byName = new Map(operations.map((one) => [one.transaction.name, one]));
  }

  violations(): readonly Violation[] {
    this.#checkLog();
    if (this.#violations.length > 0) return this.#violations;
    this.#play();
    this.#checkTime();
    for (const one of this.#operations) {
      if (one.outcome !== 'ok') continue;
      const { kind } = one.transaction;
      if (one.code === 'NIL') this.#checkGivenUp(one);
      else if (kind === 'snapshot') this.#checkSnapshot(one);
      else if (kind === 'get') this.#checkRead(one);
      else if (kind === 'noted') this.#checkNoted(one);
    }
    return this.#violations;
  }

  #violated(what: string, ...operations: readonly Operation[]): void {
    this.#violations.push({ rule: 'TX-1', key: this.#tag, what, operations });
  }

  #checkLog(): void {
    if (new Set(this.#log).size !== this.#log.length)
      this.#violated('a transaction was done twice', this.#last);
    for (const name of this.#log) {
      const one = this.#byName.get(name);
      if (one === undefined) this.#violated('a transaction that nobody sent', this.#last);
      else if (one.outcome === 'fail') this.#violated('a refused transaction was done', one);
      else if (one.code === 'NIL') this.#violated('a transaction was done and given up', one);
    }
    for (const one of this.#operations) {
      if (one.outcome !== 'ok' || !one.transaction.isDone || !isWriter(one)) continue;
      const place = this.#places.get(one.transaction.name);
      if (place === undefined)
        this.#violated('an acknowledged transaction is gone', one, this.#last);
      else if (place !== one.transaction.place)
        this.#violated('a transaction stands at another place than it was told', one, this.#last);
    }
  }

  /** The log again, from nothing; each that has an answer must have got that one. */
  #play(): void {
    for (const name of this.#log) {
      const one = this.#byName.get(name) as Known;
      const balances = [...(this.#states.at(-1) ?? [])];
      const { kind, from, to, amount, found, isDone } = one.transaction;
      const before = [String(balances[from]), String(balances[to])];
      if (kind !== 'noted') {
        balances[from] = (balances[from] ?? 0) - amount;
        balances[to] = (balances[to] ?? 0) + amount;
      }
      this.#states.push(balances);
      const after = [String(balances[from]), String(balances[to])];
      if (kind === 'watched' && found.join() !== before.join())
        this.#violated('a watched account had changed, and the transaction was done', one);
      if (kind === 'transfer' && isDone && found.join() !== after.join())
        this.#violated('a transaction was told balances of no moment', one);
    }
  }

  /** Whoever ends before another begins stands before it. */
  #checkTime(): void {
    const placed = this.#operations.flatMap((one) => {
      const isReader = one.transaction.kind === 'snapshot' && one.transaction.isDone;
      const place = isReader ? one.transaction.place : this.#places.get(one.transaction.name);
      return place === undefined ? [] : [{ one, place, isReader }];
    });
    const ended = placed
      .filter(({ one }) => one.outcome === 'ok')
      .sort((a, b) => endOf(a.one) - endOf(b.one));
    const started = [...placed].sort((a, b) => a.one.invokedMs - b.one.invokedMs);
    let next = 0;
    let newest: (typeof placed)[number] | undefined;
    for (const later of started) {
      for (; next < ended.length; next += 1) {
        const earlier = ended[next] as (typeof placed)[number];
        if (endOf(earlier.one) >= later.one.invokedMs) break;
        if (newest === undefined || earlier.place > newest.place) newest = earlier;
      }
      if (newest === undefined) continue;
      const isBehind = later.isReader ? later.place >= newest.place : later.place > newest.place;
      if (!isBehind)
        this.#violated('a transaction stands before one that had ended', newest.one, later.one);
    }
  }

  #checkSnapshot(one: Known): void {
    const { log = '', place = 0, found } = one.transaction;
    if (!(this.#last.transaction.log ?? '').startsWith(log))
      return this.#violated('a snapshot saw another order', one, this.#last);
    if (found.join() !== this.#states[place]?.join())
      this.#violated('a snapshot shows balances of no moment', one);
  }

  /** Places of the newest that had ended before `one` began, and the last that began before it ended. */
  #span(one: Known): readonly [number, number] {
    let first = 0;
    let last = 0;
    for (const [name, place] of this.#places) {
      const writer = this.#byName.get(name) as Known;
      if (writer.outcome === 'ok' && endOf(writer) < one.invokedMs) first = Math.max(first, place);
      if (writer.invokedMs < endOf(one)) last = Math.max(last, place);
    }
    return [first, last];
  }

  #checkRead(one: Known): void {
    const [first, last] = this.#span(one);
    const { from, found } = one.transaction;
    for (let place = first; place <= last; place += 1)
      if (String(this.#states[place]?.[from]) === found[0]) return;
    this.#violated('a read shows a balance of no moment that it may see', one);
  }

  /** Nil: somebody wrote what it watched, or may have. */
  #checkGivenUp(one: Known): void {
    const { kind, from, to } = one.transaction;
    const others = this.#operations.filter(
      (other) => other !== one && other.invokedMs < endOf(one) && endOf(other) > one.invokedMs,
    );
    const isCause = ({ transaction }: Known): boolean => {
      if (kind === 'noted') return transaction.kind === 'note';
      if (transaction.kind !== 'transfer' && transaction.kind !== 'watched') return false;
      return [from, to].some((account) => [transaction.from, transaction.to].includes(account));
    };
    if (!others.some(isCause))
      this.#violated('a transaction was given up though nothing that it watched had changed', one);
  }

  #checkNoted(one: Known): void {
    const [read, found] = one.transaction.found;
    if (read !== found) return this.#violated('a watched note had changed', one);
    const written = this.#operations.find(
      ({ transaction: { kind, name } }) => kind === 'note' && name === found,
    );
    if (found !== '0' && written === undefined)
      return this.#violated('a note that nobody wrote', one);
    // Somebody overwrote it, and had ended before the transaction began. Of two plain writes the one
    // with the higher stamp wins, which is the later one where clocks do not differ by more than what
    // lies between them.
    const lagMs = 2 * this.#clockErrorMs;
    const newer = this.#operations.find(
      (other) =>
        other.transaction.kind === 'note' &&
        other.outcome === 'ok' &&
        endOf(other) < one.invokedMs &&
        (written === undefined || endOf(written) + lagMs < other.invokedMs),
    );
    if (newer !== undefined)
      this.#violated('a transaction saw a note that had been overwritten', newer, one);
  }
}
