// What a store merges next: what its groups have due, else a table that holds some of a dropped
// namespace (drop-purge.ts), else tables that have expired (expired-tables.ts). The first is chosen at
// once, the others need a look at tables and memory, so they are looked for only where there may be some.

import type { Session } from '../../runtime/actor.ts';
import { DroppedKeys } from '../model/dropped-keys.ts';
import type { GroupJob } from './compaction-groups.ts';
import { DropPurge, pickDropped } from './drop-purge.ts';
import { ExpiredTables, pickExpired } from './expired-tables.ts';
import type { GroupBoard } from './group-board.ts';
import type { ManifestLog } from './manifest.ts';
import type { TableMeta } from './protocol.ts';
import type { CompactionOutcome, PurgeMoment, StoreParts } from './store-steps.ts';

/** Undefined: nothing is left to be done. */
export type Search = (session: Session) => Promise<GroupJob | undefined>;

export class MergeSearch {
  readonly #parts: StoreParts;
  readonly #groups: GroupBoard;
  readonly #drops = new DropPurge();
  readonly #expired = new ExpiredTables();
  /** The last search: of which drop it knew, and whether it looked for what is left of it. */
  #last = { generation: 0, isForDrop: false };
  readonly dropped = new DroppedKeys();
  /** Tables that could not be read, by file number: left alone until the next start. */
  readonly damaged = new Set<number>();

  constructor(parts: StoreParts, groups: GroupBoard) {
    this.#parts = parts;
    this.#groups = groups;
  }

  /** Undefined: there is nothing to look for. */
  begin(manifest: ManifestLog, place: PurgeMoment): Search | undefined {
    const parts = this.#parts;
    const { damaged, dropped } = this;
    const groups = this.#groups;
    const drops = this.#drops;
    const expired = this.#expired;
    const tables = [...manifest.state.tables.values()];
    const due = groups.pick(tables, { nowMs: place.wallMicros / 1000, damaged });
    if (due === undefined && !drops.isPending && !expired.isDue) return undefined;
    expired.begin();
    const isForDrop = drops.isPending;
    this.#last = { generation: drops.generation, isForDrop };
    const rewrite = (table: TableMeta): GroupJob => groups.rewrite(table, tables);
    const choice = { tables, purge: drops, damaged, rewrite };
    const terms = { parts, place, manifest, groups, damaged };
    return async (session) => {
      if (due !== undefined) return due;
      const left = isForDrop && (await pickDropped(session, parts.tables, dropped, choice));
      return left || pickExpired(session, expired, terms);
    };
  }

  /** Something was dropped: all tables and memory may hold some of it. The number of the drop. */
  beginDrop(): number {
    this.#drops.begin();
    return this.#drops.generation;
  }

  /** What memory held when this one was dropped is in tables. */
  dropFlushed(generation: number): void {
    if (generation === this.#drops.generation) this.#drops.flushed();
  }

  /** Time went by: something may have expired. */
  timePassed(): void {
    this.#expired.isDue = true;
  }

  /** The last search has found nothing; another namespace may have been dropped meanwhile. */
  foundNothing(): void {
    const { generation, isForDrop } = this.#last;
    if (isForDrop && generation === this.#drops.generation) this.#drops.end();
  }

  /** What the last search has found is done. */
  done(outcome: CompactionOutcome, nowMs: number): void {
    this.#drops.rewritten(this.#last.generation, outcome.written);
    this.#expired.ended(outcome, nowMs);
  }
}
