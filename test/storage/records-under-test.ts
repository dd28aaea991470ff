// Records, orders and naive models that the storage tests share.

import fc from 'fast-check';
import {
  encodeRecord,
  type RecordFields,
  recordKey,
  storageKey,
} from '../../actors/model/record.ts';
import type { RecordCursor } from '../../actors/model/record-pages.ts';
import { lastWriteWins } from '../../actors/model/resolve.ts';
import { compareBytes, utf8 } from '../../runtime/bytes.ts';
import { fingerprint32 } from '../../runtime/hash.ts';

export type RecordChanges = Partial<Omit<RecordFields, 'key' | 'value'>> & {
  readonly namespace?: number;
  readonly value?: string | Uint8Array;
};

/** A record whose fields are fixed where nothing else is said. */
export function makeRecord(key: string | Uint8Array, changes: RecordChanges = {}): Uint8Array {
  const { namespace = 1, value = 'value', ...fields } = changes;
  const user = typeof key === 'string' ? utf8.encode(key) : key;
  const storage = storageKey(namespace, user);
  return encodeRecord({
    key: storage,
    value: typeof value === 'string' ? utf8.encode(value) : value,
    valueType: 0,
    isTombstone: false,
    hlc: 1_000,
    writer: 7,
    incarnation: 1,
    version: 1,
    expiresAt: 0,
    token: 0,
    hash: fingerprint32(storage),
    ...fields,
  });
}

export const byKey = (a: Uint8Array, b: Uint8Array): number =>
  compareBytes(recordKey(a), recordKey(b));

/** Keys that share prefixes, also beyond the columns of a node, end early, and hold zeros. */
export const keys = fc.oneof(
  fc.uint8Array({ minLength: 1, maxLength: 3, max: 2 }),
  fc.uint8Array({ minLength: 1, maxLength: 20 }),
  fc
    .tuple(fc.constantFrom('', 'user:000', 'user:00000000'), fc.nat(40))
    .map(([prefix, n]) => utf8.encode(`${prefix}${n}`)),
);

/** Writes of few keys in three namespaces, with equal stamps among them. */
export const writes = fc.record({
  key: keys,
  namespace: fc.constantFrom(0, 1, 0x8000_0000),
  hlc: fc.nat(5),
  writer: fc.nat(2),
  isTombstone: fc.boolean(),
  value: fc.string({ maxLength: 30 }),
});

export const recordOf = ({
  key,
  ...changes
}: RecordChanges & { readonly key: Uint8Array }): Uint8Array => makeRecord(key, changes);

/** Hex of each record, as chai compares best. */
export const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
export const hexes = (records: readonly Uint8Array[]): string[] => records.map(hexOf);

/** The winners of each key in key order, by sorting. */
export function naiveWinners(records: readonly Uint8Array[]): Uint8Array[] {
  const winners = new Map<string, Uint8Array>();
  for (const record of records) {
    const key = hexOf(recordKey(record));
    const before = winners.get(key);
    winners.set(key, before === undefined ? record : lastWriteWins(before, record));
  }
  return [...winners.values()].sort(byKey);
}

export function drain({ next }: RecordCursor): Uint8Array[] {
  const records: Uint8Array[] = [];
  for (let record = next(); record !== undefined; record = next()) records.push(record);
  return records;
}

export function cursorOf(records: readonly Uint8Array[]): RecordCursor {
  let at = 0;
  return {
    next: () => {
      at += 1;
      return records[at - 1];
    },
  };
}
