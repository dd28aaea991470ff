// Planted bugs that the simulator must find (rule 2.9). Each one is a text patch of a compiled
// file: `find` must occur there exactly once, so that a patch which no longer fits is noticed.

export interface Mutant {
  readonly id: string;
  /** What the bug is, and which promise it breaks. */
  readonly what: string;
  /** Below the output folder. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
  /** Found within so many seeds, from the first. */
  readonly seeds: number;
}

export const mutants: readonly Mutant[] = [
  {
    id: 'ack-before-fsync',
    what: 'the log answers when the sync has started, not when it has ended (WAL-7)',
    file: 'actors/storage/wal-writer.actor.js',
    find: "file.sync((error) => toSelf('synced', { error: error?.message }));",
    replace: "file.sync(() => undefined); toSelf('synced', { error: undefined });",
    seeds: 40,
  },
  {
    id: 'stale-read-repair',
    what: 'a quorum read answers without waiting until a quorum holds the value (RR-3, G5)',
    file: 'actors/replication/read-path.js',
    find: 'if (this.#holders.size >= this.#required || this.#winner === undefined) {',
    replace: 'if (this.#winner !== null) {',
    seeds: 60,
  },
  {
    id: 'compaction-drops-newer',
    what: 'a merge keeps the record of its first input instead of the winner (G1)',
    file: 'actors/storage/merge-iterator.js',
    find: 'winner = winner === undefined ? record : resolve(winner, record);',
    replace: 'winner ??= record;',
    seeds: 40,
  },
  {
    id: 'manifest-before-table-sync',
    what: 'the manifest names tables that were not synced (MF-3)',
    file: 'actors/storage/table-output.js',
    find: 'await syncFile(open.file);',
    replace: '',
    seeds: 40,
  },
  {
    id: 'purge-with-several-copies',
    what: 'a tombstone is purged while another replica may hold what it hides (TS-3, G8)',
    file: 'actors/node/plan.js',
    find: "copies > 1 ? 'never'",
    replace: "copies > 9 ? 'never'",
    seeds: 60,
  },
  {
    id: 'row-cache-not-told',
    what: 'a write does not change what the row cache holds of its key (G1)',
    file: 'actors/storage/store.actor.js',
    find: 'this.#rows.written(record, recordHash(record));',
    replace: 'void record;',
    seeds: 40,
  },
  {
    id: 'row-cache-late-fill',
    what: 'a look-up that began before a write fills the row cache after it (G1)',
    file: 'actors/storage/row-cache.js',
    find: '|| ticket !== this.ticket(hash)',
    replace: '',
    seeds: 60,
  },
];

/** The patched text; throws where the patch does not fit exactly once. */
export function patched(text: string, { id, file, find, replace }: Mutant): string {
  const count = text.split(find).length - 1;
  if (count !== 1)
    throw new Error(
      `mutant ${id}: its text occurs ${count} times in ${file}, expected once; adapt test/mutants/mutants.ts`,
    );
  return text.replace(find, () => replace);
}
