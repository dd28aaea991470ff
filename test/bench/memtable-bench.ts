// The memtable's figures in the README: one million records of a 20-byte key and a 100-byte value
// in random order into one arena, then read back in another order. One thread, no actor around it.

import { ArenaTree } from '../../actors/storage/arena-tree.ts';
import { encodeRecord, recordKey, storageKey } from '../../actors/model/record.ts';
import { lastWriteWins } from '../../actors/model/resolve.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { assert } from '../../runtime/errors.ts';

export interface MemtableFigures {
  /** Nanoseconds per insert, mean over all. */
  readonly insertNs: number;
  /** Nanoseconds per hit, the copy of the record included. */
  readonly getNs: number;
  readonly records: number;
}

const recordCount = 1_000_000;
const arenaBytes = 320 * 1024 * 1024;
/** Odd and without a common factor with the count: visits every number once, out of order. */
const stride = 618_033_989;

function makeRecords(): Uint8Array[] {
  const value = new Uint8Array(100).fill(0x76);
  return Array.from({ length: recordCount }, (_, i) => {
    const scattered = (Math.imul(i, 0x9e37_79b1) >>> 0).toString(16).padStart(16, '0');
    return encodeRecord({
      key: storageKey(1, utf8.encode(`user${scattered}`)),
      value,
      valueType: 0,
      isTombstone: false,
      hlc: 1_700_000_000_000_000 + i,
      writer: 1,
      incarnation: 1,
      version: 1,
      expiresAt: 0,
      token: i,
      hash: i,
    });
  });
}

const nanosecondsEach = (sinceMs: number): number =>
  ((performance.now() - sinceMs) * 1e6) / recordCount;

/** About four seconds and one gigabyte of memory. */
export function benchMemtable(): Promise<MemtableFigures> {
  const records = makeRecords();
  const tree = ArenaTree.create(new SharedArrayBuffer(arenaBytes));
  const fillStartMs = performance.now();
  for (const record of records) tree.insert(record, lastWriteWins);
  const insertNs = nanosecondsEach(fillStartMs);
  assert(tree.records === recordCount, 'the arena was full');
  // A request's key was just read from a socket: close by in memory.
  const keys = records.map((_, i) =>
    recordKey(records[(i * stride) % recordCount] as Uint8Array).slice(),
  );
  const readStartMs = performance.now();
  let found = 0;
  for (const key of keys) if (tree.get(key) !== undefined) found += 1;
  const getNs = nanosecondsEach(readStartMs);
  assert(found === recordCount, 'a record is missing');
  return Promise.resolve({ insertNs, getNs, records: recordCount });
}
