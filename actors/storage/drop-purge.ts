// Clears away what namespaces that were dropped have left in tables. Every merge leaves such records
// out; where none is due, a table that holds some is rewritten alone, one after the other, until a
// look at the ranges of the dropped finds nothing. Nobody reads those keys any more, so the order in
// which they go does not matter.

import type { Ref, Session } from '../../runtime/actor.ts';
import { type DroppedKeys, droppedRanges } from '../model/dropped-keys.ts';
import { recordKey, storageKey } from '../model/record.ts';
import { noBytes } from '../../runtime/bytes.ts';
import type { GroupJob } from './compaction-groups.ts';
import { coversKey } from './key-ranges.ts';
import type { TableMeta, TableReader } from './protocol.ts';

const lookTimeoutMs = 60_000;

/** What a store has still to look for. */
export class DropPurge {
  /** Tables that a merge has written or rewritten since the last drop. */
  readonly #clean = new Set<number>();
  /** From a drop until a look at the tables found nothing of it. */
  #isOpen = false;
  /** It is in tables, not in memory any more, and they are to be looked at. */
  #isPending = false;
  /** Counts the drops: a merge that began before the last one has not left out all. */
  generation = 0;

  /** Something was dropped, or this is a start: all tables may hold some of it, and memory. */
  begin(): void {
    this.#isOpen = true;
    this.#isPending = false;
    this.generation += 1;
    this.#clean.clear();
  }

  get isPending(): boolean {
    return this.#isPending;
  }

  /** What memory held when the last one was dropped is in tables. */
  flushed(): void {
    this.#isPending = this.#isOpen;
  }

  end(): void {
    this.#isOpen = false;
    this.#isPending = false;
    this.#clean.clear();
  }

  /** A merge that began in `generation` has written these tables. */
  rewritten(generation: number, tables: readonly TableMeta[]): void {
    if (!this.#isOpen || generation !== this.generation) return;
    for (const { fileNumber } of tables) this.#clean.add(fileNumber);
  }

  isClean({ fileNumber }: TableMeta): boolean {
    return this.#clean.has(fileNumber);
  }
}

/** The next table to rewrite; undefined: nothing of the dropped is left that could be rewritten. */
export async function pickDropped(
  session: Session,
  reader: Ref<TableReader>,
  dropped: DroppedKeys,
  choice: {
    readonly tables: readonly TableMeta[];
    readonly purge: DropPurge;
    readonly damaged: ReadonlySet<number>;
    /** How a table is rewritten where it lies. */
    readonly rewrite: (table: TableMeta) => GroupJob;
  },
): Promise<GroupJob | undefined> {
  const { tables, purge, damaged, rewrite } = choice;
  const all = dropped.all;
  if (all === undefined) return undefined;
  for (const { from, to } of droppedRanges(all)) {
    const range = { from: storageKey(from, noBytes), to: storageKey(to, noBytes) };
    const body = { ...range, limit: 1, bytes: 1 };
    const { records } = await session.ask(reader, 'range', body, lookTimeoutMs);
    const [record] = records;
    if (record === undefined) continue;
    const key = recordKey(record);
    const table = tables.find(
      (each) => coversKey(each, key) && !purge.isClean(each) && !damaged.has(each.fileNumber),
    );
    if (table !== undefined) return rewrite(table);
  }
  return undefined;
}
