// The row cache against a naive store: whatever the order of reads, writes, removals and clears, it
// never gives what is older than the last visible write, and never holds more than its bound.

import { expect } from 'chai';
import fc from 'fast-check';
import { recordHash, recordKey } from '../../actors/model/record.ts';
import { lastWriteWins } from '../../actors/model/resolve.ts';
import { RowCache } from '../../actors/storage/row-cache.ts';
import { makeRecord } from './records-under-test.ts';

const slice = (bytes: Uint8Array): Uint8Array => bytes.slice();
/** Its memory was another one's before. */
const used = (length: number): Uint8Array => new Uint8Array(length).fill(0xa5);
const cacheOf = (bytes: number): RowCache => new RowCache(bytes, lastWriteWins, slice, used);
const keyOf = (name: string): { key: Uint8Array; hash: number } => {
  const record = makeRecord(name);
  return { key: recordKey(record), hash: recordHash(record) };
};

/** A look-up as the store makes it: what is not cached comes from `stored` and is kept. */
function look(
  cache: RowCache,
  name: string,
  stored: Uint8Array | undefined,
): Uint8Array | undefined {
  const { key, hash } = keyOf(name);
  const cached = cache.get(key, hash);
  if (cached !== undefined) return cached === 'absent' ? undefined : cached;
  cache.fill(key, hash, stored, cache.ticket(hash));
  return stored;
}

type Step =
  | { readonly kind: 'read'; readonly key: number }
  | { readonly kind: 'write'; readonly key: number; readonly hlc: number; readonly bytes: number }
  | { readonly kind: 'lookup'; readonly key: number }
  | { readonly kind: 'found' }
  | { readonly kind: 'clear' };

const keys = fc.nat({ max: 60 });
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 10, arbitrary: fc.record({ kind: fc.constant('read' as const), key: keys }) },
    {
      weight: 5,
      arbitrary: fc.record({
        kind: fc.constant('write' as const),
        key: keys,
        hlc: fc.integer({ min: 1, max: 200 }),
        bytes: fc.nat({ max: 3_000 }),
      }),
    },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('lookup' as const), key: keys }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('found' as const) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('clear' as const) }) },
  ),
  { maxLength: 400 },
);

describe('row-cache', () => {
  it('row-cache: never gives anything but the winner that is visible, within its bytes', () => {
    const bound = 40 * 1024;
    fc.assert(
      fc.property(steps, fc.boolean(), (drawn, hasOneHash) => {
        const cache = cacheOf(bound);
        const stored = new Map<number, Uint8Array>();
        // Look-ups that have begun and not ended: what they found may be old by then.
        const open: { key: number; ticket: number; found: Uint8Array | undefined }[] = [];
        const changes = hasOneHash ? { hash: 77 } : {};
        const named = (key: number): { key: Uint8Array; hash: number } => {
          const record = makeRecord(`k${key}`, changes);
          return { key: recordKey(record), hash: recordHash(record) };
        };
        for (const step of drawn) {
          if (step.kind === 'clear') cache.clear();
          else if (step.kind === 'found') {
            const done = open.shift();
            if (done === undefined) continue;
            const { key, hash } = named(done.key);
            cache.fill(key, hash, done.found, done.ticket);
          } else if (step.kind === 'write') {
            const record = makeRecord(`k${step.key}`, {
              ...changes,
              hlc: step.hlc,
              value: new Uint8Array(step.bytes).fill(step.hlc),
            });
            const before = stored.get(step.key);
            const winner = before === undefined ? record : lastWriteWins(before, record);
            stored.set(step.key, winner);
            cache.written(record, recordHash(record));
          } else {
            const { key, hash } = named(step.key);
            const cached = cache.get(key, hash);
            const now = stored.get(step.key);
            if (cached !== undefined)
              expect(cached === 'absent' ? undefined : cached).to.deep.equal(now);
            else if (step.kind === 'read') cache.fill(key, hash, now, cache.ticket(hash));
            else open.push({ key: step.key, ticket: cache.ticket(hash), found: now });
          }
          expect(cache.figures.bytes).to.be.at.most(bound);
        }
      }),
      { numRuns: 300 },
    );
  });

  it('row-cache: a record that was found before a write of its key is not kept', () => {
    const cache = cacheOf(64 * 1024);
    const { key, hash } = keyOf('a');
    const ticket = cache.ticket(hash);
    const newer = makeRecord('a', { hlc: 2_000, value: 'new' });
    cache.written(newer, hash);
    cache.fill(key, hash, makeRecord('a'), ticket);
    expect(cache.get(key, hash)).to.equal(undefined);
    cache.fill(key, hash, newer, cache.ticket(hash));
    expect(cache.get(key, hash)).to.deep.equal(newer);
  });

  it('row-cache: remembers that there is no record, until there is one', () => {
    const cache = cacheOf(64 * 1024);
    expect(look(cache, 'none', undefined)).to.equal(undefined);
    const { key, hash } = keyOf('none');
    expect(cache.get(key, hash)).to.equal('absent');
    const record = makeRecord('none', { value: '' });
    cache.written(record, hash);
    expect(cache.get(key, hash)).to.deep.equal(record);
    const { hits, misses } = cache.figures;
    expect([hits, misses]).to.deep.equal([2, 1]);
  });

  it('row-cache: what is used survives a scan of ten times its bytes', () => {
    const cache = cacheOf(64 * 1024);
    const stored = (name: string): Uint8Array => makeRecord(name, { value: new Uint8Array(100) });
    const hot = Array.from({ length: 40 }, (_, i) => `hot${i}`);
    for (let round = 0; round < 3; round += 1)
      for (const name of hot) look(cache, name, stored(name));
    for (let i = 0; i < 4_000; i += 1) look(cache, `cold${i}`, stored(`cold${i}`));
    const before = cache.figures.hits;
    for (const name of hot) look(cache, name, stored(name));
    expect(cache.figures.hits - before).to.equal(40);
  });

  it('row-cache: with too few bytes it keeps nothing, and costs none', () => {
    const cache = cacheOf(1_000);
    look(cache, 'a', makeRecord('a'));
    const { key, hash } = keyOf('a');
    expect(cache.get(key, hash)).to.equal(undefined);
    expect([cache.figures.bytes, cache.figures.entries]).to.deep.equal([0, 0]);
  });

  it('row-cache: what it gives is a copy', () => {
    const cache = cacheOf(64 * 1024);
    const record = makeRecord('a');
    look(cache, 'a', record);
    look(cache, 'a', record)?.fill(0);
    expect(look(cache, 'a', undefined)).to.deep.equal(record);
  });
});
