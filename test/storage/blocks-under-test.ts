// Data blocks for the tests of the cache.

import { DataBlock } from '../../actors/storage/data-block.ts';
import { concatBytes } from '../../runtime/bytes.ts';
import { makeRecord } from './records-under-test.ts';

/** A block of so many bytes: one entry and one offset. */
export function blockOf(bytes: number): DataBlock {
  const overhead = makeRecord('k', { value: '' }).length + 10;
  const record = makeRecord('k', { value: new Uint8Array(bytes - overhead) });
  const content = [new Uint8Array(2), record, new Uint8Array(4), new Uint8Array([1, 0, 0, 0])];
  return new DataBlock('t', 0, concatBytes(content));
}
