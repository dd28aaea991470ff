// Sizes that follow from the settings: what an arena has to hold, what a flush needs on the disk, the
// longest value that a replica can decide about.

import { recordBytesMax, valueBytesHardMax } from '../model/record.ts';
import type { Tunables } from './settings.ts';

/**
 * Bytes of an arena: a full memtable by the store's own count, which includes the index, the
 * largest record on top of it, and room to spare.
 */
export function arenaBytes(tunables: Tunables): number {
  return Math.ceil(tunables.memtableBytes * 1.25) + heldBytesMax(tunables) + 64 * 1024;
}

/**
 * The largest record that a store takes, with what the index takes of it: so much fits on top of a
 * full memtable. Peers with larger settings, and sets of siblings, come with records of any size.
 */
export function heldBytesMax({ inFlightBytes, valueBytesMax }: Tunables): number {
  const largest = recordBytesMax - valueBytesHardMax + valueBytesMax;
  return inFlightBytes + largest * 2;
}

/** What the vote on a value may take beside it: the results of earlier requests, keys, the index. */
const voteBytesMax = 128 * 1024;

/**
 * Longest value of a serial operation: a replica that accepts it has to find room for it a second
 * time, with its vote, in one log record and in the same memtable. Only small settings, or values
 * of nearly the highest size, make it shorter than that of a plain write.
 */
export function serialValueBytesMax(tunables: Tunables): number {
  return Math.min(tunables.valueBytesMax, decisionBytesOf(tunables));
}

/** All records that one decision may write: the same of all of them together. */
export function decisionBytesOf({ inFlightBytes, memtableBytes }: Tunables): number {
  const room = Math.min(inFlightBytes, memtableBytes, recordBytesMax);
  return room - Math.min(voteBytesMax, Math.floor(room / 2));
}

/** What one shard needs to write down its memory and to go on with a new log segment (FS-8). */
export const flushSpaceBytes = ({
  memtableBytes,
  arenasPerShard,
  walSegmentBytes,
}: Tunables): number => arenasPerShard * memtableBytes + walSegmentBytes;
