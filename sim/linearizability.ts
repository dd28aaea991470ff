// Whether some order of all operations on a register explains every answer: the search of Wing and
// Gong ("Testing and Verifying Concurrent Objects", 1993) with Lowe's memory of states that were
// tried. An operation of unknown outcome ("open") may stand anywhere after its start, or nowhere.
//
// Open writes are what a search drowns in: n of them can be placed in 2^n ways. Three things keep
// them few. Those that do the same are one class, of which the earliest is taken: all that may stand
// here may stand here in each other's place. One stands only where it changes the register, and is
// tried after the answered ones. And a state that was reached with fewer of them was no worse.

export interface RegisterOperation {
  readonly kind: 'read' | 'write' | 'delete' | 'cas';
  /** What was written, or found by a read; undefined: nothing. */
  readonly value: string | undefined;
  /** Of a cas: what had to be there, and whether it was. */
  readonly expected?: string | undefined;
  readonly wasMet?: boolean | undefined;
  readonly startMs: number;
  /** Infinity for an unknown outcome. */
  readonly endMs: number;
}

export type Verdict = 'yes' | 'no' | 'undecided';

export const stepsMax = 2_000_000;

/** The state after the operation, or false where its answer does not fit the state before. */
function apply(
  state: string | undefined,
  operation: RegisterOperation,
): string | undefined | false {
  const { kind, value, expected, wasMet, endMs } = operation;
  if (kind === 'read') return value === state ? state : false;
  if (kind === 'write') return value;
  if (kind === 'delete') return undefined;
  const matches = expected === state;
  if (endMs !== Infinity && wasMet !== matches) return false;
  return matches ? value : state;
}

/** Open operations that do the same, in the order of their starts. */
type OpenClass = readonly RegisterOperation[];

function classesOf(operations: readonly RegisterOperation[]): readonly OpenClass[] {
  const classes = new Map<string, RegisterOperation[]>();
  for (const operation of operations) {
    const { kind, value, expected, endMs } = operation;
    if (endMs !== Infinity || kind === 'read') continue;
    const what = JSON.stringify([kind, value ?? null, kind === 'cas' ? (expected ?? null) : null]);
    const same = classes.get(what);
    if (same === undefined) classes.set(what, [operation]);
    else same.push(operation);
  }
  return [...classes.values()];
}

class Search {
  readonly #answered: readonly RegisterOperation[];
  readonly #isPlaced: boolean[];
  readonly #open: readonly OpenClass[];
  /** Of each class. */
  readonly #used: number[];
  /** For each state: how many of each class had been used whenever it was reached. */
  readonly #visited = new Map<string, (readonly number[])[]>();
  #steps = 0;

  constructor(operations: readonly RegisterOperation[]) {
    const sorted = [...operations].sort((a, b) => a.startMs - b.startMs);
    this.#answered = sorted.filter(({ endMs }) => endMs !== Infinity);
    this.#isPlaced = new Array<boolean>(this.#answered.length).fill(false);
    this.#open = classesOf(sorted);
    this.#used = new Array<number>(this.#open.length).fill(0);
  }

  run(): Verdict {
    if (this.#from(0, undefined)) return 'yes';
    return this.#steps > stepsMax ? 'undecided' : 'no';
  }

  /** Every answered operation before `first` has its place. */
  #from(first: number, state: string | undefined): boolean {
    let from = first;
    while (this.#isPlaced[from] === true) from += 1;
    if (from === this.#answered.length) return true;
    this.#steps += 1;
    if (this.#steps > stepsMax || this.#wasHere(from, state)) return false;
    const earliestEnd = this.#earliestEnd(from);
    return this.#tryAnswered(from, state, earliestEnd) || this.#tryOpen(from, state, earliestEnd);
  }

  #tryAnswered(from: number, state: string | undefined, earliestEnd: number): boolean {
    for (let i = from; i < this.#answered.length; i += 1) {
      const operation = this.#answered[i] as RegisterOperation;
      if (operation.startMs > earliestEnd) break;
      if (this.#isPlaced[i] === true) continue;
      const next = apply(state, operation);
      if (next === false) continue;
      this.#isPlaced[i] = true;
      if (this.#from(from, next)) return true;
      this.#isPlaced[i] = false;
    }
    return false;
  }

  #tryOpen(from: number, state: string | undefined, earliestEnd: number): boolean {
    for (const [i, same] of this.#open.entries()) {
      const used = this.#used[i] ?? 0;
      const operation = same[used];
      if (operation === undefined || operation.startMs > earliestEnd) continue;
      const next = apply(state, operation);
      if (next === false || next === state) continue;
      this.#used[i] = used + 1;
      if (this.#from(from, next)) return true;
      this.#used[i] = used;
    }
    return false;
  }

  /** In this state before, with no more open operations used than now. */
  #wasHere(from: number, state: string | undefined): boolean {
    const placed = this.#isPlaced.slice(from, this.#isPlaced.lastIndexOf(true) + 1).map(Number);
    const here = JSON.stringify([from, placed.join(''), state ?? null]);
    const before = this.#visited.get(here) ?? [];
    const isMet = (used: readonly number[]): boolean =>
      used.every((count, i) => count <= (this.#used[i] ?? 0));
    if (before.some(isMet)) return true;
    before.push([...this.#used]);
    this.#visited.set(here, before);
    return false;
  }

  #earliestEnd(from: number): number {
    let earliest = Infinity;
    for (let i = from; i < this.#answered.length; i += 1)
      if (this.#isPlaced[i] === false)
        earliest = Math.min(earliest, (this.#answered[i] as RegisterOperation).endMs);
    return earliest;
  }
}

/** `undecided` after two million steps. Reads of unknown outcome say nothing and are left out. */
export const isLinearizable = (operations: readonly RegisterOperation[]): Verdict =>
  new Search(operations).run();
