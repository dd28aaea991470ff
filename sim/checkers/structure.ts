// CK-13: what must hold of the files of a node at any time, and of the ring. Each table that a
// manifest names exists, is the one that was meant, and verifies from its first byte to its last; a
// node finds its manifest. Each token has as many different replicas as there are copies.
//
// The files of a node whose disk the faults have damaged are not looked at.

import { decodeCurrent, manifestName } from '../../actors/storage/manifest.ts';
import { readSegment, type SegmentVerdict } from '../../actors/storage/segment-reader.ts';
import { openTable } from '../../actors/storage/sstable-reader.ts';
import { decodeEdit, ManifestState } from '../../actors/storage/version-edit.ts';
import { decodeSegmentHeader } from '../../actors/storage/wal-format.ts';
import type { Ring } from '../../actors/model/ring.ts';
import type { BlockCodecs, Disk } from '../../runtime/environment.ts';
import type { Checker } from '../checker.ts';

export const structureChecker: Checker = {
  id: 'CK-13',
  check: ({ diskProblems, disksInspected }) => ({
    judged: disksInspected,
    violations: [...diskProblems].flatMap(([node, problems]) =>
      problems.map((what) => ({ rule: 'CK-13', key: node, what, operations: [] })),
    ),
  }),
};

/** What is wrong in the files of a node; it may be running. */
export function inspectDisk(disk: Disk, codecs: BlockCodecs): string[] {
  const shards = disk.list('').filter((name) => name.startsWith('shard-'));
  return shards.flatMap((directory) => {
    try {
      const state = readManifest(disk, directory);
      if (state === undefined) return [];
      for (const table of state.tables.values()) {
        const reader = openTable({ disk, codecs, directory }, table);
        reader.verifyAll();
        reader.close();
      }
      return [];
    } catch (error) {
      return [`${directory}: ${error instanceof Error ? error.message : String(error)}`];
    }
  });
}

/** Undefined: the shard has none yet. */
function readManifest(disk: Disk, directory: string): ManifestState | undefined {
  const current = disk.read(`${directory}/CURRENT`);
  if (current === undefined) return undefined;
  const segmentNumber = decodeCurrent(current);
  if (segmentNumber === undefined) throw new Error('CURRENT names no manifest');
  const bytes = disk.read(`${directory}/${manifestName(segmentNumber)}`);
  if (bytes === undefined) throw new Error('the manifest that CURRENT names is gone');
  const identity = decodeSegmentHeader(bytes);
  if (identity === undefined) throw new Error('the manifest has no header');
  const state = new ManifestState();
  const verdict: SegmentVerdict = readSegment(
    bytes,
    {
      kind: 'manifest',
      identity,
      segmentNumber,
      later: undefined,
      flushedThrough: 0,
      inFlightBytesMax: bytes.length,
    },
    ({ payload }) => {
      const edit = decodeEdit(payload);
      const problem = state.problemWith(edit);
      if (problem !== undefined) throw new Error(`a version edit ${problem}`);
      state.apply(edit);
    },
  );
  if (verdict.kind === 'corrupt') throw new Error(`manifest: ${verdict.reason}`);
  return state;
}

/** What is wrong with a ring: `tokens` are looked at one by one. */
export function inspectRing(ring: Ring, tokens: readonly number[], copies: number): string[] {
  return tokens.flatMap((token) => {
    const replicas = ring.replicasOf(token);
    const isRight = replicas.length === copies && new Set(replicas).size === copies;
    return isRight ? [] : [`token ${token} has the replicas ${replicas.join(', ')}, not ${copies}`];
  });
}
