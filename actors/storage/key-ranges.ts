// Tables as ranges of keys. A run is a list of ranges in key order that share no key: each level
// above 0 is one, so at most one of its tables can hold a key, and a binary search finds it.

import { compareBytes } from '../../runtime/bytes.ts';

/** Both keys are included. */
export interface KeyRange {
  readonly firstKey: Uint8Array;
  readonly lastKey: Uint8Array;
}

export function coversKey({ firstKey, lastKey }: KeyRange, key: Uint8Array): boolean {
  return compareBytes(key, firstKey) >= 0 && compareBytes(key, lastKey) <= 0;
}

export function rangesOverlap(a: KeyRange, b: KeyRange): boolean {
  return compareBytes(a.lastKey, b.firstKey) >= 0 && compareBytes(a.firstKey, b.lastKey) <= 0;
}

export function byFirstKey(a: KeyRange, b: KeyRange): number {
  return compareBytes(a.firstKey, b.firstKey);
}

/** Whether ranges that are sorted by their first key share no key. */
export function isRun(ranges: readonly KeyRange[]): boolean {
  return ranges.every((range, i) => {
    const previous = ranges[i - 1];
    return previous === undefined || compareBytes(previous.lastKey, range.firstKey) < 0;
  });
}

/** The index of the first range of a run that does not end before `key`. */
export function indexInRun(run: readonly KeyRange[], key: Uint8Array): number {
  let low = 0;
  let high = run.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (compareBytes((run[middle] as KeyRange).lastKey, key) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The ranges of a run that share a key with `range`. */
export function overlapInRun<T extends KeyRange>(run: readonly T[], range: KeyRange): readonly T[] {
  const from = indexInRun(run, range.firstKey);
  let to = from;
  while (to < run.length && compareBytes((run[to] as T).firstKey, range.lastKey) <= 0) to += 1;
  return run.slice(from, to);
}

/** The smallest range that covers all of them; there is at least one. */
export function unionOf(ranges: readonly KeyRange[]): KeyRange {
  let { firstKey, lastKey } = ranges[0] as KeyRange;
  for (const range of ranges) {
    if (compareBytes(range.firstKey, firstKey) < 0) firstKey = range.firstKey;
    if (compareBytes(range.lastKey, lastKey) > 0) lastKey = range.lastKey;
  }
  return { firstKey, lastKey };
}
