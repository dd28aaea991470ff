// Planted bugs that show after a chain of events which no seed can be relied on to draw: each one is
// found by a test that plays the chain in the simulator. The test must pass without the bug, and
// fail with it by the assertion that the row names: a patch that breaks anything else finds nothing.

import { mutants, type PlantedBug } from './mutants.ts';

export interface Scenario {
  /** Compiled test file, below the output folder. */
  readonly file: string;
  /** In the title of the test. */
  readonly title: string;
  /** In the message of the assertion that fails. */
  readonly failsWith: string;
}

export interface ScenarioMutant extends PlantedBug {
  readonly scenario: Scenario;
}

/** A bug that seeds find late, played as well: it stays found when seeds are drawn differently. */
function played(id: string, scenario: Scenario): ScenarioMutant {
  const bug = mutants.find((mutant) => mutant.id === id);
  if (bug === undefined) throw new Error(`no planted bug ${id} that seeds find`);
  return { ...bug, id: `${id}-played`, scenario, isQuick: true };
}

export const scenarioMutants: readonly ScenarioMutant[] = [
  played('torn-tail-in-the-middle', {
    file: 'test/storage/wal-recovery.test.js',
    title: 'bytes that may be in flight are those of the writer, not of the reader',
    failsWith: 'it was not refused',
  }),
  played('read-before-promise', {
    file: 'test/serial/acceptor.test.js',
    title: 'a promise is answered when it is stored, with what is read after that (PX-3)',
    failsWith: 'what is read before the promise is stored',
  }),
  played('siblings-old-name', {
    file: 'test/replication/sibling-keeper.test.js',
    title: 'what it counts after the loss of its disk stands beside what it had counted (DV-3)',
    failsWith: 'an acknowledged value was taken for another',
  }),
  // Seeds last minutes, and with several copies marks of deletes stay for hours (tombstoneGraceMs).
  {
    id: 'purge-ignores-memory',
    rule: 'M12',
    what: 'a tombstone is purged while memory holds an older record of its key (TS-2, G8)',
    file: 'actors/storage/store-steps.js',
    find: 'belowHlc: Math.min(minHlc, Math.floor(wallMicros) - graceMs * 1000),',
    replace: 'belowHlc: Math.floor(wallMicros) - graceMs * 1000,',
    scenario: {
      file: 'test/sim/repair.test.js',
      title: 'a tombstone stays while memory holds an older write of its key (memory=active)',
      failsWith: 'a delete was undone',
    },
    isQuick: true,
  },
  {
    id: 'purge-ignores-frozen-memory',
    rule: 'M12',
    what: 'a tombstone is purged while a memtable that is being flushed holds an older record of its key (TS-2, G8)',
    file: 'actors/storage/memtable.actor.js',
    find: 'oldest = Math.min(oldest, minHlc);',
    replace: 'if (tree === this.#active.tree) oldest = Math.min(oldest, minHlc);',
    scenario: {
      file: 'test/sim/repair.test.js',
      title: 'a tombstone stays while memory holds an older write of its key (memory=frozen)',
      failsWith: 'a delete was undone',
    },
    isQuick: true,
  },
  // Overlapping tables of a level end the reader at once, but only what has lain across a border does.
  {
    id: 'merge-beside-mixed-tables',
    what: 'a group is merged into a level in which a table still reaches over its border (MF-9)',
    file: 'actors/storage/compaction-groups.js',
    find: 'if (inTheWay.length > 0)',
    replace: 'if (inTheWay.length > 99)',
    scenario: {
      file: 'test/storage/compaction-groups.test.js',
      title: 'while a mixed table lies above level 0 nothing else is merged',
      failsWith: 'the mixed table',
    },
    isQuick: true,
  },
  {
    id: 'merge-before-the-catalog',
    what: 'a store that starts merges as if no namespace had chosen anything',
    file: 'actors/storage/store.actor.js',
    find: 'if (options.catalog !== undefined)',
    replace: 'if (options.catalog === undefined)',
    scenario: {
      file: 'test/sim/table-settings.test.js',
      title: 'a start merges nothing before it knows what was chosen',
      failsWith: 'tables of a window of their own',
    },
    isQuick: true,
  },
  {
    id: 'restore-keeps-the-name',
    rule: 'M25',
    what: 'a restored node is of the cluster that was backed up, and has forgotten what it acknowledged (BK-3, CO-4)',
    file: 'cli/backup/restore.js',
    find: 'this.#options = options;\n        this.#snapshot = snapshotOfNode(list, options.node);',
    replace:
      'this.#snapshot = snapshotOfNode(list, options.node);\n        this.#options = { ...options, clusterName: this.#snapshot.clusterName };',
    also: [
      // Of the cluster that it came from, it would be filled before it counts.
      {
        file: 'actors/node/identity.js',
        find: 'const isWhole = isMarked || isAlone || isOfBefore;',
        replace: 'const isWhole = true;',
      },
    ],
    scenario: {
      file: 'test/sim/restored-node.test.js',
      title: 'the cluster that was backed up does not take it for the one it was',
      failsWith: 'a stale quorum read',
    },
    isQuick: true,
  },
  {
    id: 'late-decision-not-announced',
    what: 'a decision that is older than a finished repair is applied without a word to the repairer (TS-7, G8)',
    file: 'actors/replication/acceptor.actor.js',
    find: 'if (repairer === undefined || hlc > floor.hlc)',
    replace: 'if (repairer === undefined || hlc > 0)',
    scenario: {
      file: 'test/sim/repair.test.js',
      title: 'a serial delete by a clock that was set back stays until all have it',
      failsWith: 'before n3 had it',
    },
  },
  {
    id: 'repair-passes-what-came-late',
    what: 'a repair leaves out what came late where another member may have purged it (AE-3, TS-7)',
    file: 'actors/repair/repair-run.js',
    find: 'lowest.push(low === Infinity ? 0 : low)',
    replace: 'lowest.push(high)',
    scenario: {
      file: 'test/sim/repair.test.js',
      title: 'a serial delete by a clock that was set back stays until all have it',
      failsWith: 'a delete was undone',
    },
  },
  {
    id: 'counted-hint-overtaken',
    what: 'a repair overtakes a hint that alone holds an acknowledged write (WR-4)',
    file: 'actors/replication/replica.actor.js',
    find: 'return this.#missed(record, call, false);',
    replace: 'return this.#missed(record, call, true);',
    scenario: {
      file: 'test/sim/hints.test.js',
      title: 'what a write at ANY has left is brought also where a repair was faster',
      failsWith: 'acknowledged',
    },
  },
  {
    id: 'acceptor-passes-its-store',
    what: 'an acceptor goes on from the state before the one that is on its way to the disk (PX-3, PX-4)',
    file: 'actors/replication/acceptor-steps.js',
    find: "await this.#session.ask(this.#store, 'apply', { record: stateRecord }, storeTimeoutMs);",
    replace:
      "await this.#session.ask(this.#store, 'apply', { record: stateRecord }, this.#leftMs());",
    scenario: {
      file: 'test/serial/acceptor.test.js',
      title: 'a state that may be stored or not is stored again before the next step',
      failsWith: 'the store has not answered',
    },
    isQuick: true,
  },
  {
    id: 'votes-not-taken-over',
    what: 'a node that lost its disk votes without what the others know of its keys (PX-17, CO-4)',
    file: 'actors/rejoin/filling.js',
    find: 'await takeOverVotes({',
    replace: 'void ({',
    scenario: {
      file: 'test/sim/rejoin.test.js',
      title: 'a vote that went with the disk is not given again before the others were asked',
      failsWith: 'has committed',
    },
    isQuick: true,
  },
  // One stale replica of three hides behind its quorum, so no seed shows this one.
  {
    id: 'row-cache-late-fill',
    what: 'a look-up that began before a write fills the row cache after it (G1)',
    file: 'actors/storage/row-cache.js',
    find: '|| ticket !== this.ticket(hash)',
    replace: '',
    scenario: {
      file: 'test/sim/caches.test.js',
      title: 'a look-up that a write overtakes leaves nothing behind',
      failsWith: 'an answer is older than what was acknowledged',
    },
    isQuick: true,
  },
  // Who makes the change has to be cut off in the moment in which it is decided.
  {
    id: 'change-answered-too-early',
    what: 'a change of the namespaces is answered when one node acts by it',
    file: 'actors/catalog/spread.js',
    find: 'if (isCovered(ring, have))',
    replace: 'if (have.size > 0)',
    scenario: {
      file: 'test/catalog/change-answers.test.js',
      title: 'a drop is not answered while a quorum takes writes to what was dropped',
      failsWith: 'a drop was answered, and a write after it taken',
    },
    isQuick: true,
  },
  // A seed cannot tell a round that nobody ended from one that was never acknowledged.
  {
    id: 'open-updates-left',
    what: 'nobody looks for rounds whose proposer is gone (PX-16)',
    file: 'actors/replication/paxos-repairer.actor.js',
    find: 'if (intervalMs > 0)',
    replace: 'if (intervalMs < 0)',
    scenario: {
      file: 'test/serial/paxos-repair.sim.test.js',
      title: 'what a majority has accepted is committed, without any operation (key)',
      failsWith: 'nobody has finished it',
    },
    isQuick: true,
  },
  // Seeds bring decisions of one hash tag in another order, but a quorum hides the one that lacks them.
  {
    id: 'decision-handed-on-in-part',
    what: 'who lacks a decision gets only those of its keys that the round reads (PX-7 b, decision 21)',
    file: 'actors/replication/serial-round.js',
    find: 'if (found.length === wanted.size)',
    replace: 'if (found.length <= wanted.size)',
    scenario: {
      file: 'test/serial/transactions.test.js',
      title: 'who lacks the newest decision gets all keys that it wrote',
      failsWith: 'what each has',
    },
    isQuick: true,
  },
  {
    id: 'late-decision-dropped',
    what: 'of a decision that comes after a newer one of its hash tag nothing is applied (decision 21)',
    file: 'actors/replication/acceptor.actor.js',
    find: 'else if (proposal.records.length > 0)',
    replace: 'else if (proposal.records.length > 1_000_000)',
    scenario: {
      file: 'test/serial/acceptor.test.js',
      title: 'a commit older than the newest brings its records all the same',
      failsWith: 'a late decision wrote',
    },
    isQuick: true,
  },
  // Seeds forget states, but nobody comes with a ballot that old.
  {
    id: 'floors-not-held',
    what: 'an acceptor that has forgotten a state promises ballots from before (PX-15, decision 26)',
    file: 'actors/replication/acceptor-steps.js',
    find: 'state: above(state, this.#floorOf(this.#at.token))',
    replace: 'state: above(state, 0 * this.#floorOf(this.#at.token))',
    scenario: {
      file: 'test/serial/paxos-repair.sim.test.js',
      title: 'states are forgotten when all members have settled, and their keys go on',
      failsWith: 'an old ballot',
    },
    isQuick: true,
  },
  {
    id: 'forgets-beside-the-open',
    what: 'states are forgotten although something older is open (PX-15, decision 26)',
    file: 'actors/replication/paxos-repair.js',
    find: 'settled.delete(set);',
    replace: 'settled.get(set);',
    scenario: {
      file: 'test/serial/paxos-repair.sim.test.js',
      title: 'while something older is open, nothing is forgotten',
      failsWith: 'states beside an open update',
    },
    isQuick: true,
  },
  {
    id: 'floor-before-steps-end',
    what: 'a floor is answered while something below it is being accepted (PX-15, decision 26)',
    file: 'actors/replication/acceptor.actor.js',
    find: 'await Promise.allSettled(underWay);',
    replace: 'void underWay;',
    scenario: {
      file: 'test/serial/acceptor.test.js',
      title: 'a floor is not answered while something below it is still being accepted',
      failsWith: 'a pass would not see it',
    },
    isQuick: true,
  },
  {
    id: 'array-of-a-lent-block-used-again',
    what: 'a block of which a view was given out is overwritten by another one (G7)',
    file: 'actors/storage/data-block.js',
    find: 'this.isLent = true;',
    replace: '',
    scenario: {
      file: 'test/storage/sstable.test.js',
      title: 'what was given out stays as it is when blocks go and others come (lz4)',
      failsWith: 'bytes that were given out',
    },
    isQuick: true,
  },
  {
    id: 'block-used-again-under-a-cursor',
    what: 'a block that goes during a range read is overwritten although a cursor stands in it (G7)',
    file: 'actors/storage/block-cache.js',
    find: 'this.#passed.push(entry);',
    replace: 'this.#reclaim(entry);',
    scenario: {
      file: 'test/storage/block-cache.test.js',
      title: 'arrays of what goes during a range read wait for its end, also of blocks not kept',
      failsWith: 'none twice in one page',
    },
    isQuick: true,
  },
  {
    id: 'two-moments-in-a-look',
    what: 'a read of several keys without a ballot joins what replicas hold of different decisions (decision 11)',
    file: 'actors/replication/serial-round.js',
    find: 'if (this.#keys.length > 1 && !isOneMoment(seen))',
    replace: 'if (this.#keys.length > 1_000_000 && !isOneMoment(seen))',
    scenario: {
      file: 'test/serial/transactions.test.js',
      title: 'what a repair brought of a newer decision is not shown beside what is older',
      failsWith: 'two moments',
    },
    isQuick: true,
  },
  // Seeds bring no hint late enough: a delete has to be purged before it.
  {
    id: 'old-hints-replayed',
    rule: 'M13',
    what: 'hints are replayed however old, also those that a repair has overtaken (HH-4, G8)',
    file: 'actors/replication/replica.actor.js',
    find: 'else if (reply.isOvertaken)',
    replace: 'else if (reply.isOvertaken && reply.isOvertaken !== true)',
    also: [
      {
        file: 'actors/handoff/hint-keeper.actor.js',
        find: 'if (this.#isYoung(hint, nowMs)) {',
        replace: 'if (nowMs >= 0) {',
      },
    ],
    scenario: {
      file: 'test/sim/hints.test.js',
      title: 'none brings back what was deleted, repaired and purged meanwhile',
      failsWith: 'a delete was undone',
    },
    isQuick: true,
  },
  // Coordinators refuse it before a replica is asked, but in the moment in which they learn of the drop.
  {
    id: 'replicas-serve-the-dropped',
    what: 'a replica takes part in writes to a namespace that it knows to be dropped',
    file: 'actors/model/namespaces.js',
    find: 'if (this.document.nextId > 1 && this.isDroppedKey(key))',
    replace: 'if (key === null)',
    scenario: {
      file: 'test/catalog/change-answers.test.js',
      title: 'a drop is not answered while a quorum takes writes to what was dropped',
      failsWith: 'a write where all know of the drop',
    },
    isQuick: true,
  },
  // One call lies between the segment and the file that names it.
  {
    id: 'no-directory-sync-of-segments',
    rule: 'M16',
    what: 'a new log segment takes records before its name is durable (FS-3)',
    file: 'actors/storage/wal-writer.actor.js',
    find: 'await syncFile(file);\n        await disk.syncDirectory(directory);',
    replace: 'await syncFile(file);',
    scenario: {
      file: 'test/storage/crash-enumeration.test.js',
      title: 'power is lost while a start recovers what was never synced (seed=3)',
      failsWith: 'did not start again',
    },
    isQuick: true,
  },
  // A seed has to bring both between the answers of two replicas and their way back.
  {
    id: 'joins-what-began-before',
    what: 'a read of a hot key is answered by a shared read that began before it (decision 25, G5)',
    file: 'actors/replication/joined-reads.js',
    find: 'group.next.add(waiter);',
    replace: 'group.running.add(waiter);',
    scenario: {
      file: 'test/replication/coordinator-reads.test.js',
      title: 'a joined read sees a write that was acknowledged while another was in flight',
      failsWith: 'a stale answer to a read that came after the write',
    },
    isQuick: true,
  },
  // In a cluster the other replicas have the record, and a quorum that lacks it takes luck to meet.
  {
    id: 'corrupt-block-is-nothing',
    rule: 'M15',
    what: 'a table whose block is damaged answers that it has no such key (CO-3, G13)',
    file: 'actors/storage/table-reader.actor.js',
    find: 'const found = reader.get(key, hash);',
    replace: 'let found; try { found = reader.get(key, hash); } catch { found = undefined; }',
    scenario: {
      file: 'test/storage/bit-flips.test.js',
      title: 'a changed bit is refused, an error or harmless (kind=table, flips=200)',
      failsWith: 'what is read with ',
    },
    isQuick: true,
  },
  // All holders of a hint have to lose their power in the moment before it is on a disk.
  {
    id: 'batch-hints-not-on-disk',
    rule: 'M21',
    what: 'the log of a batch goes before its hints are on a disk (BL-4)',
    file: 'actors/replication/batch-keeper.actor.js',
    find: ".ask(hints(token), 'keepSynced', { node, record }, askTimeoutMs)",
    replace: '.sleep(0)',
    scenario: {
      file: 'test/replication/batch-keeper.test.js',
      title:
        'what a replica does not take is in its hints, on the disk, before the entry goes (BL-4)',
      failsWith: 'the entry goes before its hints are on the disk',
    },
    isQuick: true,
  },
  // With wrong clocks in a seed nodes do not check them, or nobody would write.
  {
    id: 'wrong-clock-not-heard',
    what: 'a node whose clock is wrong goes on coordinating writes (HLC-7)',
    file: 'actors/replication/replica-view.js',
    find: 'this.#clockOffMicros = clockOffMicros;',
    replace: 'this.#clockOffMicros = undefined;',
    scenario: {
      file: 'test/sim/wrong-clock.test.js',
      title:
        'others coordinate what comes to that node, and it does again when set right (2000 ms)',
      failsWith: 'who has coordinated it',
    },
    isQuick: true,
  },
];
