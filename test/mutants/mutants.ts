// Planted bugs that the simulator must find (rule 2.9). Each one is a text patch of a compiled
// file: `find` must occur there exactly once, so that a patch which no longer fits is noticed.
//
// These rows are found by seeds; those that need a certain chain of events are in scenarios.ts.
// Bugs of rule 2.9 whose feature is not there yet are rows of `awaited`, with the feature.

import { exitCodes } from '../../sim/report.ts';

/** One replacement in one compiled file, below the output folder. */
export interface Patch {
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

/** What all rows have, however the bug is found. */
export interface PlantedBug extends Patch {
  readonly id: string;
  /** Its number in rule 2.9, where it has one. */
  readonly rule?: string;
  /** What the bug is, and which promise it breaks. */
  readonly what: string;
  /** What else has to go for the bug to be one: a second guard of the same promise. */
  readonly also?: readonly Patch[];
  /** Found quickly: part of every test run. */
  readonly isQuick?: boolean;
}

/** A bug that seeds of the simulator find. */
export interface Mutant extends PlantedBug {
  /** Found within so many seeds, from the first. */
  readonly seeds: number;
  /** Classes of faults that every seed gets: those without which the bug does nothing. */
  readonly with?: readonly string[];
  /** Exit code of the simulator. Default: safety. */
  readonly exitCode?: number;
}

export const mutants: readonly Mutant[] = [
  {
    id: 'ack-before-fsync',
    what: 'the log answers when the sync has started, not when it has ended (WAL-7)',
    file: 'actors/storage/wal-writer.actor.js',
    find: "file.sync((error) => toSelf('synced', { error: error?.message }));",
    replace: "file.sync(() => undefined); toSelf('synced', { error: undefined });",
    seeds: 40,
    with: ['power-loss', 'blackout'],
    isQuick: true,
  },
  {
    id: 'stale-read-repair',
    rule: 'M10',
    what: 'a quorum read answers without waiting until a quorum holds the value (RR-3, G5)',
    file: 'actors/replication/read-path.js',
    find: 'if (this.#holders.length >= this.#required || this.#winner === undefined) {',
    replace: 'if (this.#winner !== null) {',
    seeds: 60,
    isQuick: true,
  },
  {
    id: 'compaction-drops-newer',
    what: 'a merge keeps the record of its first input instead of the winner (G1)',
    file: 'actors/storage/merge-iterator.js',
    find: 'winner = resolve(winner, head.record);',
    replace: 'winner ??= head.record;',
    seeds: 40,
    isQuick: true,
  },
  {
    id: 'counts-without-its-disk',
    what: 'a node that lost its disk answers reads and writes before it is filled (CO-4)',
    file: 'actors/replication/replica.actor.js',
    find: 'if (!this.#isOpen)',
    replace: 'if (this.#isOpen === undefined)',
    seeds: 120,
    with: ['wiped-disk', 'cut', 'kill'],
  },
  {
    id: 'votes-without-its-disk',
    what: 'a node that lost its disk votes before it has asked the others (PX-17)',
    file: 'actors/replication/acceptor.actor.js',
    find: 'if (!this.#isOpen)',
    replace: 'if (this.#isOpen === undefined)',
    seeds: 120,
    with: ['wiped-disk', 'cut', 'kill'],
  },
  {
    id: 'namespace-id-given-again',
    what: 'the id of a namespace that was dropped is given to the next one that is created',
    file: 'actors/catalog/changes.js',
    find: 'id: nextId, createdMs',
    replace: 'id: Math.max(...namespaces.map((each) => each.id)) + 1, createdMs',
    seeds: 60,
    isQuick: true,
  },
  {
    id: 'purge-of-living-namespaces',
    what: 'a merge leaves out what is below the next id, dropped or not',
    file: 'actors/model/dropped-keys.js',
    find: 'return own < nextId && !alive.has(own);',
    replace: 'return own < nextId && own > 0;',
    seeds: 120,
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
    find: "copies > 1 ? 'after-repair' : 'after-grace'",
    replace: "'at-once'",
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
    id: 'purge-without-overlap-check',
    rule: 'M11',
    what: 'a tombstone is purged while another table holds what it hides (TS-2, G8)',
    file: 'actors/storage/purge-rule.js',
    find: 'return others.some((other) => other.minHlc <= hlc && coversKey(other, key));',
    replace: 'return false;',
    seeds: 200,
  },
  {
    id: 'tie-by-arrival',
    rule: 'M14',
    what: 'of two records with one stamp the one that came first wins (HLC-1, G9)',
    file: 'actors/model/record.js',
    find: 'return (recordHlc(a) - recordHlc(b) ||',
    replace:
      'if (recordHlc(a) === recordHlc(b)) return 0;\n    return (recordHlc(a) - recordHlc(b) ||',
    seeds: 200,
    with: ['cut', 'flap', 'clog'],
  },
  {
    id: 'no-directory-sync-of-tables',
    rule: 'M16',
    what: 'the manifest names tables whose names are not durable (FS-3)',
    file: 'actors/storage/table-output.js',
    find: 'await disk.syncDirectory(`${directory}/tables`);',
    replace: 'await Promise.resolve();',
    seeds: 60,
    with: ['power-loss'],
    isQuick: true,
  },
  {
    id: 'log-deleted-before-manifest',
    rule: 'M17',
    what: 'segments of the log go before the manifest names the table with their records (MF-3)',
    file: 'actors/storage/store.actor.js',
    find: 'this.#frozen(reply.table);',
    replace:
      "this.#frozen(reply.table); if (reply.table !== undefined) this.#ctx.tell(this.#options.wal, 'release', { throughLsn: reply.table.throughLsn });",
    seeds: 100,
    with: ['kill', 'slow-disk', 'crash-at-label'],
  },
  {
    id: 'sync-error-retried',
    rule: 'M18',
    what: 'a sync that failed counts as done at the next try (FS-6)',
    file: 'actors/storage/wal-writer.actor.js',
    find: "file.sync((error) => toSelf('synced', { error: error?.message }));",
    replace: "file.sync(() => toSelf('synced', { error: undefined }));",
    seeds: 200,
    with: ['disk-error'],
  },
  {
    id: 'torn-tail-in-the-middle',
    rule: 'M19',
    what: 'a damaged record ends the log, whatever evidence there is that more was durable (WAL-10)',
    file: 'actors/storage/wal-recovery.js',
    find: "if (verdict.kind === 'corrupt')\n            this.#lost(path, verdict.offset, verdict.reason);",
    replace: '',
    seeds: 150,
    with: ['rot', 'kill'],
  },
  {
    id: 'cursor-of-a-replica',
    rule: 'M22',
    what: 'a page goes on where one replica ended and not where all of them had spoken (SC-5, G15)',
    file: 'actors/model/record-pages.js',
    find: 'if (end !== undefined && compareBytes(key, end) > 0)',
    replace: 'if (end !== undefined && key === undefined)',
    seeds: 150,
    with: ['loss', 'cut'],
  },
  {
    id: 'unbounded-remote-clock',
    rule: 'M23',
    what: 'a stored stamp of any future moves the clock of a node (HLC-4)',
    file: 'actors/replication/stamper.js',
    find: 'if (floor >= Math.floor(wallMicros) + maxSkewMicros && floor > this.#last)',
    replace: 'if (floor < 0)',
    seeds: 100,
    with: ['clock-jump'],
  },
  {
    id: 'digest-without-tombstones',
    rule: 'M26',
    what: 'the etag of a tombstone says that there is nothing (RR-1, G8)',
    file: 'actors/replication/replica.actor.js',
    find: 'if (record === undefined)\n        return { record: undefined, hlc: 0',
    replace:
      'if (record === undefined || (digest && (record[2] & 1) !== 0))\n        return { record: undefined, hlc: 0',
    seeds: 60,
  },
  {
    id: 'session-of-one-replica',
    rule: 'M29',
    what: 'a read of a session is shown whatever the replica that answered has (SS-3, G6)',
    file: 'actors/gateway/session.js',
    find: 'if (compareEtags(seen, known.etag) >= 0)',
    replace: 'if (seen !== undefined)',
    seeds: 60,
    isQuick: true,
  },
  {
    id: 'timeout-as-failure',
    rule: 'M30',
    what: 'a write that nobody can tell the outcome of is reported as one without effect (ID-1, G17)',
    file: 'actors/replication/write-path.js',
    find: "failure('TIMEOUT', {",
    replace: "failure('UNAVAILABLE', {",
    seeds: 60,
    isQuick: true,
  },
  {
    id: 'flush-without-end',
    what: 'a store whose memtable is full of what waits for the log flushes nothing, again and again',
    file: 'actors/storage/store.actor.js',
    find: 'if (table !== undefined || this.#queue.isWished)',
    replace: 'if (this.#admission.isMemtableFull || this.#queue.isWished)',
    seeds: 100,
    with: ['stuck-disk'],
    exitCode: exitCodes.crash,
  },
  {
    id: 'no-empty-proposal',
    rule: 'M3',
    what: 'a condition that is not met, or a read, ends without settling an open write (PX-9)',
    file: 'actors/replication/serial-round.js',
    find: 'if (records.length === 0 && isQuiet(promised))',
    replace: 'if (records.length === 0)',
    seeds: 240,
    with: ['cut', 'flap', 'loss'],
  },
  {
    id: 'read-before-promise',
    rule: 'M4',
    what: 'the value of a key is read before the promise, beside other steps of the key (PX-3)',
    file: 'actors/replication/acceptor.actor.js',
    find: 'const stored = await steps.load();\n            const { state } = stored;\n            const seen = seenIn(state);',
    replace:
      'const early = await steps.data(keys);\n            const stored = await steps.load();\n            const { state } = stored;\n            const seen = seenIn(state);',
    also: [
      {
        file: 'actors/replication/acceptor.actor.js',
        find: 'isPromised: true, records: await steps.data(keys)',
        replace: 'isPromised: true, records: early',
      },
      {
        file: 'actors/replication/acceptor.actor.js',
        find: 'turns.run(name, () => work(new KeySteps({ session, at, name, ...parts(session) })))',
        replace: 'work(new KeySteps({ session, at, name, ...parts(session) }))',
      },
    ],
    seeds: 160,
    with: ['cut', 'flap', 'loss'],
  },
  {
    id: 'commit-of-one',
    rule: 'M5',
    what: 'a decision is acknowledged when a single replica has applied it (PX-11, G4)',
    file: 'actors/replication/serial-round.js',
    find: 'this.#commitTo(live, this.#required, proposal)',
    replace: 'this.#commitTo(live, 1, proposal)',
    seeds: 160,
    with: ['cut', 'flap', 'loss'],
  },
  {
    id: 'ballots-without-node',
    rule: 'M6',
    what: 'ballots are times of a coarse clock without their node, and an equal one is promised again (PX-1)',
    file: 'actors/replication/proposer.actor.js',
    find: 'return { hlc, writer, incarnation };',
    replace: 'return { hlc, writer: 0, incarnation: 0 };',
    also: [
      {
        file: 'actors/replication/proposer.actor.js',
        find: 'const hlc = Math.max(last, wallMicros, floor) + 1;',
        replace: 'const hlc = Math.max(last, wallMicros - (wallMicros % 50_000), floor) + 1;',
      },
      {
        file: 'actors/replication/acceptor-state.js',
        find: 'if (compareEtags(ballot, highestOf(state)) <= 0)',
        replace: 'if (compareEtags(ballot, highestOf(state)) < 0)',
      },
    ],
    seeds: 160,
    with: ['cut', 'flap', 'clock-strobe'],
  },
  {
    id: 'accept-without-promise',
    rule: 'M2',
    what: 'an acceptor takes a proposal although it has promised a newer ballot (PX-4)',
    file: 'actors/replication/acceptor-state.js',
    find: 'if (compareEtags(ballot, highestOf(state)) < 0)',
    replace: 'if (ballot.hlc === 0)',
    seeds: 160,
    with: ['cut', 'flap', 'loss'],
  },
  {
    id: 'promise-not-stored',
    rule: 'M1',
    what: 'a promise is answered and not stored, so a crash forgets it at once (PX-3)',
    file: 'actors/replication/acceptor.actor.js',
    find: 'await steps.save(stored, promised);',
    replace: '',
    seeds: 160,
    with: ['cut', 'flap', 'loss'],
  },
  {
    id: 'acceptor-forgets',
    rule: 'M7',
    what: 'now and then an acceptor has lost the state of a key (PX-15)',
    file: 'actors/replication/acceptor-steps.js',
    find: 'if (record === undefined)\n            return { state: emptyState, stamp: 0 };',
    replace:
      'if (record === undefined) return { state: emptyState, stamp: 0 };\n' +
      'if (recordHlc(record) % 5 === 0) return { state: emptyState, stamp: recordHlc(record) };',
    seeds: 240,
    with: ['cut', 'flap', 'loss'],
  },
  {
    id: 'unfinished-decision-passed-over',
    what: 'a round goes on without proposing again what somebody has accepted (PX-7)',
    file: 'actors/replication/serial-round.js',
    find: 'if (newest === undefined || newest.records.length === 0)',
    replace: 'if (newest !== null)',
    seeds: 80,
    with: ['cut', 'kill', 'loss'],
    isQuick: true,
  },
  {
    id: 'increment-sent-twice',
    rule: 'M20',
    what: 'a gateway that lost its proposer sends an increment to the next one (ID-1)',
    file: 'actors/gateway/attempts.js',
    find: "(verb === 'read' || errorTable[code].effect === 'none')",
    replace: "(verb === 'read' || errorTable[code].effect !== undefined)",
    seeds: 60,
    with: ['reset', 'kill', 'cut'],
  },
  {
    id: 'own-decision-overlooked',
    what: 'what somebody else has finished for a round is done once more (PX-12)',
    file: 'actors/replication/serial-round.js',
    find: 'if (history.includes(attempt.ballot)) {',
    replace: 'if (history.includes(attempt.ballot) && attempt.ballot.hlc === 0) {',
    seeds: 160,
    with: ['cut', 'flap', 'loss'],
  },
  {
    id: 'watch-bears-any-gap',
    what: 'a watch goes on although a majority of the feeds has lost changes (WATCH-1)',
    file: 'actors/gateway/watch-positions.js',
    find: 'return isBorne;',
    replace: 'return true;',
    seeds: 120,
  },
  {
    id: 'watch-goes-back',
    what: 'a watch tells what an other replica says of a key though it has told newer (WATCH-1)',
    file: 'actors/gateway/watch-memory.js',
    find: 'if (known !== undefined && compareEtags(recordEtag(record), recordEtag(known.head)) <= 0)',
    replace: 'if (known === null)',
    seeds: 60,
    isQuick: true,
  },
  {
    id: 'siblings-out-of-turn',
    what: 'two changes of a sibling set read the same one (DV-2)',
    file: 'actors/replication/key-turns.js',
    find: 'if (waiting !== undefined) {',
    replace: 'if (waiting === null) {',
    seeds: 60,
  },
  {
    id: 'siblings-overwritten',
    what: 'a sibling set from another replica takes the place of the one that is here (DV-1)',
    file: 'actors/replication/sibling-keeper.actor.js',
    find: 'return base === undefined ? record : joinRecords(base, record);',
    replace: 'return record;',
    seeds: 60,
    isQuick: true,
  },
  {
    id: 'siblings-forget-context',
    what: 'a write does not say what it has overwritten (DV-1)',
    file: 'actors/model/siblings.js',
    find: 'joinClocks(joinClocks(set.clock, context), [dot])',
    replace: 'joinClocks(set.clock, [dot])',
    seeds: 120,
  },
  {
    id: 'siblings-old-name',
    what: 'a replica that lost its state goes on counting under its old name (DV-3)',
    file: 'actors/replication/sibling-keeper.actor.js',
    find: 'const epoch = Math.max(this.#lastEpoch + 1, stamp);',
    replace: 'const epoch = 1;',
    also: [
      {
        file: 'actors/replication/sibling-keeper.actor.js',
        find: 'if (this.#isBehind(base, incoming.clock))',
        replace: 'if (base === null)',
      },
      {
        file: 'actors/replication/sibling-keeper.actor.js',
        find: 'epoch: Math.max(stamp, from)',
        replace: 'epoch: 1',
      },
    ],
    seeds: 240,
    with: ['wiped-disk'],
  },
  {
    id: 'watch-not-kept',
    what: 'EXEC does not look whether a watched key has changed (decision 21)',
    file: 'actors/replication/serial-operations.js',
    find: 'if (watches.some((watched) => this.#hasChanged(namespace, watched)))',
    replace: 'if (watches.length > 1_000_000)',
    seeds: 60,
  },
  {
    id: 'batch-not-logged',
    what: 'a holder of the log answers before the entry is in its store (BL-2)',
    file: 'actors/replication/batch-keeper.actor.js',
    find: "await session.ask(store, 'apply', { record }, leftMs);",
    replace: 'await undefined;',
    seeds: 160,
    with: ['kill', 'power-loss', 'crash-at-call'],
  },
  {
    id: 'batch-called-off-in-secret',
    what: 'a batch that was logged on one node only is said to have failed, and is not called off (BL-2)',
    file: 'actors/replication/batch-write.js',
    find: "session.ask(holder, 'callOff', { hlc, writer, incarnation }, cancelMs)",
    replace: 'Promise.resolve()',
    seeds: 160,
    with: ['cut', 'flap', 'kill'],
  },
];

export interface Awaited {
  readonly rule: string;
  readonly what: string;
  readonly feature: string;
}

const topology = 'changes of the topology';

/** Move a row up as a mutant when its feature is there. */
// biome-ignore format: a table
export const awaited: readonly Awaited[] = [
  { rule: 'M8', what: 'a pending replica does not count in a quorum', feature: topology },
  { rule: 'M9', what: 'a replica ignores the epoch of a request', feature: topology },
  { rule: 'M24', what: 'a node starts again with a lower generation', feature: topology },
  { rule: 'M27', what: 'streaming starts before the write barrier', feature: topology },
  { rule: 'M28', what: 'a cleanup while ranges are pending', feature: topology },
];

/** All replacements of a bug, in the order in which they are made. */
export const patchesOf = (bug: PlantedBug): readonly Patch[] => [bug, ...(bug.also ?? [])];

/** The patched text; throws where the patch does not fit exactly once. */
export function patched(text: string, id: string, { file, find, replace }: Patch): string {
  const count = text.split(find).length - 1;
  if (count !== 1)
    throw new Error(
      `mutant ${id}: its text occurs ${count} times in ${file}, expected once; adapt test/mutants/mutants.ts`,
    );
  return text.replace(find, () => replace);
}
