// Keys and ranges as a program hands them in, checked and turned into storage keys. All keys of an
// embedded store live in namespace 0, so its files are those of a node with one shard.

import { keyBytesMax, storageKey } from '../../actors/model/record.ts';
import { compareBytes, justAfter, prefixEnd, utf8 } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';

/** Text stands for its UTF-8 bytes. */
export type Bytes = Uint8Array | string;

export interface IterateOptions {
  readonly gte?: Bytes;
  readonly gt?: Bytes;
  readonly lte?: Bytes;
  readonly lt?: Bytes;
  /** Only keys that start with it. */
  readonly prefix?: Bytes;
  /** Entries at most; default: all. */
  readonly limit?: number;
  /** Descending order. Of an open store: as of the moment when it begins, by a snapshot. */
  readonly reverse?: boolean;
}

/** Storage keys from `from`, included, to `to`, not included. */
export interface KeyRange {
  readonly from: Uint8Array;
  readonly to: Uint8Array;
  readonly limit: number;
  readonly isReverse: boolean;
}

const namespace = 0;
/** Above every key of the namespace. */
const namespaceEnd = new Uint8Array([0, 0, 0, 1]);

/** BAD_REQUEST for anything but text and bytes. */
export function bytesOf(bytes: unknown, field: string): Uint8Array {
  if (typeof bytes === 'string') return utf8.encode(bytes);
  if (bytes instanceof Uint8Array) return bytes;
  throw new KvError('BAD_REQUEST', { field, detail: `${field}: expected text or a Uint8Array` });
}

/** 1 to 1,024 bytes; a copy, so the caller may go on using its own. */
export function checkedKey(key: Bytes): Uint8Array {
  const bytes = bytesOf(key, 'key');
  if (bytes.length === 0)
    throw new KvError('BAD_REQUEST', { field: 'key', detail: 'key: expected at least one byte' });
  if (bytes.length > keyBytesMax)
    throw new KvError('TOO_LARGE', { field: 'key', bytes: bytes.length, max: keyBytesMax });
  return storageKey(namespace, bytes);
}

const optionNames = ['gte', 'gt', 'lte', 'lt', 'prefix', 'limit', 'reverse'];

/** BAD_REQUEST names what is wrong. */
export function rangeOf(options: IterateOptions): KeyRange {
  const { gte, gt, lte, lt, prefix, limit = Infinity } = options;
  refuseOthers(options, limit);
  const start = bound(prefix ?? '', 'prefix');
  const from = [start];
  if (gte !== undefined) from.push(bound(gte, 'gte'));
  if (gt !== undefined) from.push(justAfter(bound(gt, 'gt')));
  const to = [prefixEnd(start) ?? namespaceEnd];
  if (lt !== undefined) to.push(bound(lt, 'lt'));
  if (lte !== undefined) to.push(justAfter(bound(lte, 'lte')));
  return {
    from: extreme(from, 1),
    to: extreme(to, -1),
    limit,
    isReverse: options.reverse === true,
  };
}

function refuseOthers(options: IterateOptions, limit: number): void {
  for (const name of Object.keys(options))
    if (!optionNames.includes(name))
      throw new KvError('BAD_REQUEST', { field: name, detail: `iterate: no option ${name}` });
  if (!['undefined', 'boolean'].includes(typeof options.reverse))
    throw new KvError('BAD_REQUEST', { field: 'reverse', detail: 'reverse: expected a boolean' });
  if (limit !== Infinity && !(Number.isInteger(limit) && limit >= 0))
    throw new KvError('BAD_REQUEST', { field: 'limit', detail: 'limit: expected 0 or more' });
}

const bound = (bytes: Bytes, field: string): Uint8Array =>
  storageKey(namespace, bytesOf(bytes, field));

/** The highest (1) or the lowest (-1). */
function extreme(keys: readonly Uint8Array[], sign: 1 | -1): Uint8Array {
  return keys.reduce((best, key) => (compareBytes(key, best) * sign > 0 ? key : best));
}
