// Several sorted cursors as one: for each key the winner of all records that have it. Compaction
// and long scans read through it. With a handful of inputs a linear search for the lowest key is
// as fast as a heap (docs/performance.md), and simpler.

import { compareBytes, noBytes } from '../../runtime/bytes.ts';
import { assert } from '../../runtime/errors.ts';
import { recordKey } from '../model/record.ts';
import type { RecordCursor } from '../model/record-pages.ts';
import type { Resolve } from '../model/resolve.ts';

interface Head {
  readonly cursor: RecordCursor;
  /** Undefined: the cursor has ended. */
  record: Uint8Array | undefined;
  key: Uint8Array;
}

/**
 * Winners in strict key order. Each cursor gives its records in the same strict order of keys; a record must stay as it is after its cursor was asked for the next one.
 */
export function mergeCursors(
  cursors: readonly RecordCursor[],
  resolve: Resolve,
  order: 'ascending' | 'descending' = 'ascending',
): RecordCursor {
  const sign = order === 'ascending' ? 1 : -1;
  let heads = cursors.map((cursor): Head => ({ cursor, record: undefined, key: noBytes }));
  for (const head of heads) advance(head, sign);
  heads = heads.filter(isOpen);
  const next = (): Uint8Array | undefined => {
    const key = firstKey(heads, sign);
    if (key === undefined) return undefined;
    let winner: Uint8Array | undefined;
    let hasEnded = false;
    for (const head of heads) {
      const { record } = head;
      if (record === undefined || compareBytes(head.key, key) !== 0) continue;
      winner = winner === undefined ? record : resolve(winner, record);
      advance(head, sign);
      hasEnded ||= !isOpen(head);
    }
    if (hasEnded) heads = heads.filter(isOpen);
    return winner;
  };
  return { next };
}

/** Cursors one after the other; each is opened when it is its turn, and all keys ascend. */
export function chainCursors(openers: readonly (() => RecordCursor)[]): RecordCursor {
  let at = 0;
  let cursor: RecordCursor | undefined;
  const next = (): Uint8Array | undefined => {
    for (;;) {
      const record = cursor?.next();
      if (record !== undefined) return record;
      cursor = openers[at]?.();
      if (cursor === undefined) return undefined;
      at += 1;
    }
  };
  return { next };
}

const isOpen = ({ record }: Head): boolean => record !== undefined;

/** The lowest key (`sign` 1) or the highest (-1). */
function firstKey(heads: readonly Head[], sign: number): Uint8Array | undefined {
  let first: Uint8Array | undefined;
  for (const { key } of heads)
    if (first === undefined || compareBytes(key, first) * sign < 0) first = key;
  return first;
}

function advance(head: Head, sign: number): void {
  const hasBegun = head.record !== undefined;
  head.record = head.cursor.next();
  if (head.record === undefined) return;
  const key = recordKey(head.record);
  const isInOrder = !hasBegun || compareBytes(head.key, key) * sign < 0;
  assert(isInOrder, 'a cursor gave its keys out of order');
  head.key = key;
}
