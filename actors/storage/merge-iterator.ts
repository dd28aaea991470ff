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
  const step = (head: Head): void => {
    advance(head, sign);
    if (!isOpen(head)) heads = heads.filter(isOpen);
  };
  const next = (): Uint8Array | undefined => {
    let first: Head | undefined;
    let isShared = false;
    for (const head of heads) {
      const order = first === undefined ? -1 : compareBytes(head.key, first.key) * sign;
      if (order < 0) first = head;
      if (order <= 0) isShared = order === 0;
    }
    if (first === undefined) return undefined;
    const { key } = first;
    let winner = first.record;
    if (isShared)
      for (const head of heads) {
        if (head === first || compareBytes(head.key, key) !== 0) continue;
        winner = resolve(winner as Uint8Array, head.record as Uint8Array);
        step(head);
      }
    step(first);
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

function advance(head: Head, sign: number): void {
  const hasBegun = head.record !== undefined;
  head.record = head.cursor.next();
  if (head.record === undefined) return;
  const key = recordKey(head.record);
  const isInOrder = !hasBegun || compareBytes(head.key, key) * sign < 0;
  assert(isInOrder, 'a cursor gave its keys out of order');
  head.key = key;
}
