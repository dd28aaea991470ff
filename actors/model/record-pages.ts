// Pages of records from several sources for one range, merged into one page: replicas of a
// cluster, shards of a node, memory and tables of a shard.
//
// A source whose page was cut short (isDone = false) says nothing about keys after its last one,
// so the merge ends there: a key is never taken for missing because a page was full (short-read
// protection, SC-3).

import { compareBytes } from '../../runtime/bytes.ts';
import { recordKey } from './record.ts';
import type { Resolve } from './resolve.ts';

/** Records in ascending key order, each key once. */
export interface RecordPage {
  readonly records: readonly Uint8Array[];
  /** True: nothing beyond the last record within the range. False: ask again after it. */
  readonly isDone: boolean;
}

/** Records one after the other in key order. */
export interface RecordCursor {
  readonly next: () => Uint8Array | undefined;
}

/** The page of a cursor that stands at the start of the range. */
export function readPage(
  cursor: RecordCursor,
  { to, limit, bytes }: { readonly to: Uint8Array | undefined; limit: number; bytes: number },
): RecordPage {
  const records: Uint8Array[] = [];
  let size = 0;
  for (;;) {
    const record = cursor.next();
    if (record === undefined) return { records, isDone: true };
    if (to !== undefined && compareBytes(recordKey(record), to) >= 0)
      return { records, isDone: true };
    // One record at least: a page that is cut before its first would never get on.
    const isFull = records.length >= limit || size >= bytes;
    if (isFull && records.length > 0) return { records, isDone: false };
    records.push(record);
    size += record.length;
  }
}

/** At most `limit` winners by `resolve`; every page covers the same range from its first key on. */
export function mergePages(
  pages: readonly RecordPage[],
  limit: number,
  resolve: Resolve,
): RecordPage {
  // Cut before its first record, a page speaks for no key at all.
  if (pages.some((page) => !page.isDone && page.records.length === 0))
    return { records: [], isDone: false };
  // With nothing in its range a source says nothing more.
  const filled = pages.filter((page) => page.records.length > 0);
  const [only] = filled;
  if (only === undefined) return { records: [], isDone: true };
  if (filled.length === 1 && only.records.length <= limit) return only;
  const end = commonEnd(filled);
  const heads = filled.map((page) => new PageHead(page));
  const records: Uint8Array[] = [];
  for (;;) {
    const key = lowestKey(heads);
    if (key === undefined) break;
    if (end !== undefined && compareBytes(key, end) > 0) return { records, isDone: false };
    if (records.length === limit) return { records, isDone: false };
    records.push(takeWinner(heads, key, resolve));
  }
  return { records, isDone: end === undefined };
}

/** The record of a page whose turn is next; undefined at its end. */
class PageHead {
  record: Uint8Array | undefined;
  key: Uint8Array | undefined;
  readonly #records: readonly Uint8Array[];
  #at = 0;

  constructor({ records }: RecordPage) {
    this.#records = records;
    this.#look();
  }

  advance(): void {
    this.#at += 1;
    this.#look();
  }

  #look(): void {
    this.record = this.#records[this.#at];
    this.key = this.record === undefined ? undefined : recordKey(this.record);
  }
}

/** The last key up to which every page speaks; undefined: to the end of the range. */
function commonEnd(pages: readonly RecordPage[]): Uint8Array | undefined {
  let end: Uint8Array | undefined;
  for (const { records, isDone } of pages) {
    const last = records[records.length - 1];
    if (isDone || last === undefined) continue;
    const key = recordKey(last);
    if (end === undefined || compareBytes(key, end) < 0) end = key;
  }
  return end;
}

function lowestKey(heads: readonly PageHead[]): Uint8Array | undefined {
  let lowest: Uint8Array | undefined;
  for (const { key } of heads)
    if (key !== undefined && (lowest === undefined || compareBytes(key, lowest) < 0)) lowest = key;
  return lowest;
}

/** The winner among the heads with this key; all of them advance. */
function takeWinner(heads: readonly PageHead[], key: Uint8Array, resolve: Resolve): Uint8Array {
  let winner: Uint8Array | undefined;
  for (const head of heads) {
    const { record } = head;
    if (record === undefined || head.key === undefined) continue;
    if (head.key !== key && compareBytes(head.key, key) !== 0) continue;
    winner = winner === undefined ? record : resolve(winner, record);
    head.advance();
  }
  return winner as Uint8Array;
}
