// Memtables on their way to tables: one is frozen after the other, and written after the other, the
// oldest first, so that whatever is released of the log is in tables (WAL-9). One whose flush failed
// stays the first.
//
// Whoever wishes for a flush is answered when all that was in memory at that moment is in tables: it
// waits for the table of a freeze that begins later, or, where that finds nothing, for those before.

import type { Failure } from '../../runtime/errors.ts';
import type { FrozenTable } from './protocol.ts';

/** Hears when what it waits for is in tables, or that it could not be written now. */
export interface FlushWaiter {
  readonly done: () => void;
  readonly failed: (problem: Failure) => void;
}

export interface Frozen {
  readonly table: FrozenTable;
  /** Bytes of records for the log; undefined: of an earlier run, or tried before. */
  loggedBytes: number | undefined;
  readonly waiters: FlushWaiter[];
}

export class FlushQueue {
  readonly #frozenMax: number;
  /** Oldest first; the first one is being written, or waits for its next try. */
  #frozen: Frozen[] = [];
  #isWriting = false;
  /** The freeze that is under way. */
  #freezing: { readonly loggedBytes: number; readonly waiters: FlushWaiter[] } | undefined;
  /** For the freeze after that. */
  #wishes: FlushWaiter[] = [];

  /** At most so many are frozen at a time: all arenas but the one that takes records. */
  constructor(frozenMax: number) {
    this.#frozenMax = frozenMax;
  }

  /** Of the start: frozen already, oldest first. */
  begin(tables: readonly FrozenTable[]): void {
    this.#frozen = tables.map((table) => ({ table, loggedBytes: undefined, waiters: [] }));
  }

  wish(waiter: FlushWaiter): void {
    this.#wishes.push(waiter);
  }

  get isWished(): boolean {
    return this.#wishes.length > 0;
  }

  get isEmpty(): boolean {
    return this.#frozen.length === 0;
  }

  get mayFreeze(): boolean {
    return this.#freezing === undefined && this.#frozen.length < this.#frozenMax;
  }

  /** What was logged since the last freeze, so many bytes, is in the table. */
  freezeBegins(loggedBytes: number): void {
    this.#freezing = { loggedBytes, waiters: this.#wishes };
    this.#wishes = [];
  }

  /** Undefined: there was nothing to freeze. The bytes that were logged for nothing. */
  frozen(table: FrozenTable | undefined): number {
    const { loggedBytes, waiters } = this.#freezing ?? { loggedBytes: 0, waiters: [] };
    this.#freezing = undefined;
    if (table !== undefined) {
      this.#frozen.push({ table, loggedBytes, waiters });
      return 0;
    }
    const last = this.#frozen[this.#frozen.length - 1];
    if (last === undefined) for (const { done } of waiters) done();
    else last.waiters.push(...waiters);
    return loggedBytes;
  }

  /** The one to be written now, if none is. */
  next(): Frozen | undefined {
    const [first] = this.#frozen;
    if (this.#isWriting || first === undefined) return undefined;
    this.#isWriting = true;
    return first;
  }

  written(): void {
    this.#isWriting = false;
    const first = this.#frozen.shift();
    for (const { done } of first?.waiters ?? []) done();
  }

  /** It is tried again; nobody waits for that. */
  failed(problem: Failure): void {
    const waiters = this.#wishes.splice(0);
    for (const frozen of this.#frozen) waiters.unshift(...frozen.waiters.splice(0));
    const [first] = this.#frozen;
    if (first !== undefined) first.loggedBytes = undefined;
    for (const { failed } of waiters) failed(problem);
  }

  retry(): void {
    this.#isWriting = false;
  }
}
