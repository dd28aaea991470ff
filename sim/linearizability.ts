// Whether some order of all operations on a register explains every answer: the search of Wing and
// Gong ("Testing and Verifying Concurrent Objects", 1993) with Lowe's memory of states that were
// tried. An operation of unknown outcome may stand anywhere after its start, or nowhere.

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

const stepsMax = 2_000_000;

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

class Search {
  readonly #sorted: readonly RegisterOperation[];
  readonly #required: number;
  readonly #done: boolean[];
  readonly #visited = new Set<string>();
  #steps = 0;

  constructor(operations: readonly RegisterOperation[]) {
    this.#sorted = [...operations].sort((a, b) => a.startMs - b.startMs);
    this.#required = operations.filter(({ endMs }) => endMs !== Infinity).length;
    this.#done = new Array<boolean>(operations.length).fill(false);
  }

  run(): Verdict {
    if (this.#from(0, 0, undefined)) return 'yes';
    return this.#steps > stepsMax ? 'undecided' : 'no';
  }

  /** Everything before `first` has its place. */
  #from(first: number, placed: number, state: string | undefined): boolean {
    if (placed === this.#required) return true;
    this.#steps += 1;
    if (this.#steps > stepsMax) return false;
    let from = first;
    while (this.#done[from] === true) from += 1;
    if (this.#wasHere(from, state)) return false;
    const earliestEnd = this.#earliestEnd(from);
    for (let i = from; i < this.#sorted.length; i += 1) {
      const operation = this.#sorted[i] as RegisterOperation;
      if (operation.startMs > earliestEnd) break;
      if (this.#done[i] === true) continue;
      const next = apply(state, operation);
      if (next === false) continue;
      this.#done[i] = true;
      if (this.#from(from, placed + (operation.endMs === Infinity ? 0 : 1), next)) return true;
      this.#done[i] = false;
    }
    return false;
  }

  #wasHere(from: number, state: string | undefined): boolean {
    const done = this.#done.slice(from, this.#done.lastIndexOf(true) + 1).map(Number);
    const here = `${from}/${done.join('')}/${state ?? '(nothing)'}`;
    if (this.#visited.has(here)) return true;
    this.#visited.add(here);
    return false;
  }

  #earliestEnd(from: number): number {
    let earliest = Infinity;
    for (let i = from; i < this.#sorted.length; i += 1)
      if (this.#done[i] === false)
        earliest = Math.min(earliest, (this.#sorted[i] as RegisterOperation).endMs);
    return earliest;
  }
}

/** `undecided` after two million steps. Reads of unknown outcome say nothing: leave them out. */
export const isLinearizable = (operations: readonly RegisterOperation[]): Verdict =>
  new Search(operations).run();
