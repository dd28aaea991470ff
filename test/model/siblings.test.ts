// Sibling sets against a model that keeps every write and what its writer had seen: whatever the
// order in which replicas hear of each other, exactly the values that nobody has overwritten are left.

import { expect } from 'chai';
import fc from 'fast-check';
import { compareBytes, utf8 } from '../../runtime/bytes.ts';
import {
  compareRecords,
  equalEtags,
  recordEtag,
  recordExpiresAt,
  recordIsTombstone,
  recordValue,
  storageKey,
} from '../../actors/model/record.ts';
import {
  addEvent,
  type Clock,
  contextOf,
  decodeContext,
  decodeSet,
  emptySet,
  encodeSet,
  joinRecords,
  joinSets,
  liveSiblings,
  mergeReplicas,
  recordOfSet,
  type SiblingContent,
  type SiblingSet,
  setOf,
} from '../../actors/model/siblings.ts';
import { hashKey } from '../../actors/model/token.ts';
import { codeThrownBy } from '../kit.ts';
import { hexOf, makeRecord } from '../kit-replication.ts';

const key = storageKey(1, utf8.encode('cart'));
const place = { key, ...hashKey(key) };
const replicas = 3;

const content = (text: string, expiresAt = 0): SiblingContent => ({
  hlc: 1,
  expiresAt,
  valueType: 1,
  value: utf8.encode(text),
});

const actorOf = (replica: number) => ({ writer: replica + 1, epoch: 7 });

type Step =
  | { readonly kind: 'write' | 'delete'; readonly at: number; readonly seen: number | undefined }
  | { readonly kind: 'join'; readonly from: number; readonly to: number };

const replica = fc.integer({ min: 0, max: replicas - 1 });
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    kind: fc.constantFrom('write' as const, 'delete' as const),
    at: replica,
    seen: fc.option(replica, { nil: undefined }),
  }),
  fc.record({ kind: fc.constant('join' as const), from: replica, to: replica }),
);

/** One replica: its record, and in the model the numbers of the writes that it knows. */
interface Held {
  record: Uint8Array | undefined;
  known: Set<number>;
}

interface Written {
  readonly text: string | undefined;
  readonly seen: ReadonlySet<number>;
}

/** Runs the steps on records and model; returns both. */
function play(steps: readonly Step[]): { held: Held[]; writes: Written[] } {
  const held: Held[] = Array.from({ length: replicas }, () => ({
    record: undefined,
    known: new Set(),
  }));
  const writes: Written[] = [];
  const at = (index: number): Held => held[index] as Held;
  for (const one of steps) {
    if (one.kind === 'join') {
      const [from, to] = [at(one.from), at(one.to)];
      if (from.record !== undefined)
        to.record = to.record === undefined ? from.record : joinRecords(to.record, from.record);
      to.known = new Set([...to.known, ...from.known]);
      continue;
    }
    const own = at(one.at);
    const seen = one.seen === undefined ? undefined : at(one.seen);
    const context: Clock = decodeContext(contextOf(seen?.record), place.hash);
    const text = one.kind === 'write' ? `v${writes.length}` : undefined;
    const body = text === undefined ? undefined : content(text);
    const set = addEvent(setOf(own.record), actorOf(one.at), context, body);
    own.record = recordOfSet(place, set, writes.length + 1);
    writes.push({ text, seen: new Set(seen?.known) });
    // What the writer has seen need not have arrived here: it is known as overwritten.
    own.known = new Set([...own.known, ...(seen?.known ?? []), writes.length - 1]);
  }
  return { held, writes };
}

/** Of the known writes, the values that no known write has seen. */
function survivors(known: ReadonlySet<number>, writes: readonly Written[]): string[] {
  const overwritten = new Set([...known].flatMap((number) => [...(writes[number]?.seen ?? [])]));
  return [...known]
    .filter((number) => !overwritten.has(number))
    .flatMap((number) => writes[number]?.text ?? [])
    .sort();
}

const textsOf = (record: Uint8Array | undefined): string[] =>
  setOf(record)
    .siblings.map(({ value }) => utf8.decode(value))
    .sort();

function decodedAgain(bytes: Uint8Array): string {
  const code = codeThrownBy(() => decodeSet(bytes));
  if (code !== 'nothing was thrown') return code;
  return compareBytes(encodeSet(decodeSet(bytes)), bytes) === 0 ? 'the same bytes' : 'other bytes';
}

const steps = fc.array(step, { minLength: 1, maxLength: 40 });

describe('siblings', () => {
  it('siblings: every replica holds exactly the values that no write it knows of has seen', () => {
    fc.assert(
      fc.property(steps, (some) => {
        const { held, writes } = play(some);
        for (const { record, known } of held)
          expect(textsOf(record)).to.deep.equal(survivors(known, writes));
      }),
      { numRuns: 2_000 },
    );
  });

  it('siblings: joins are commutative, associative and idempotent', () => {
    fc.assert(
      fc.property(steps, (some) => {
        const [a, b, c] = play(some).held.map(({ record }) => setOf(record)) as [
          SiblingSet,
          SiblingSet,
          SiblingSet,
        ];
        const hex = (set: SiblingSet): string => hexOf(encodeSet(set));
        expect(hex(joinSets(a, b))).to.equal(hex(joinSets(b, a)));
        expect(hex(joinSets(joinSets(a, b), c))).to.equal(hex(joinSets(a, joinSets(b, c))));
        expect(hex(joinSets(a, a))).to.equal(hex(a));
      }),
      { numRuns: 1_000 },
    );
  });

  it('siblings: a join is never older than its parts, and equal etags are equal bytes', () => {
    fc.assert(
      fc.property(steps, (some) => {
        const records = play(some).held.flatMap(({ record }) => record ?? []);
        for (const a of records)
          for (const b of records) {
            const joined = joinRecords(a, b);
            expect(compareRecords(joined, a)).to.be.at.least(0);
            expect(compareRecords(joined, b)).to.be.at.least(0);
            const haveEqualEtags = equalEtags(recordEtag(a), recordEtag(b));
            expect(haveEqualEtags).to.equal(compareBytes(a, b) === 0);
            expect(hexOf(mergeReplicas(a, b))).to.equal(hexOf(joined));
          }
      }),
      { numRuns: 1_000 },
    );
  });

  it('siblings: what is encoded comes back, and other bytes are refused', () => {
    fc.assert(
      fc.property(steps, fc.nat(), fc.integer({ min: 1, max: 255 }), (some, where, change) => {
        const record = play(some).held.find((one) => one.record !== undefined)?.record;
        if (record === undefined) return;
        const bytes = recordValue(record);
        expect(hexOf(encodeSet(decodeSet(bytes)))).to.equal(hexOf(bytes));
        const damaged = bytes.slice();
        const at = where % damaged.length;
        damaged[at] = (damaged[at] as number) ^ change;
        // Another set, or refused: never an error of another kind, never two encodings of one set.
        expect(['BAD_REQUEST', 'the same bytes']).to.include(decodedAgain(damaged));
        for (const length of [0, 4, bytes.length - 1])
          expect(codeThrownBy(() => decodeSet(bytes.subarray(0, length)))).to.equal('BAD_REQUEST');
      }),
      { numRuns: 1_000 },
    );
  });

  it('siblings: a delete without context leaves what it has not seen', () => {
    const one = addEvent(emptySet, actorOf(0), [], content('a'));
    const blind = addEvent(one, actorOf(0), [], undefined);
    expect(blind.siblings.map(({ value }) => utf8.decode(value))).to.deep.equal(['a']);
    const seen = addEvent(one, actorOf(1), one.clock, undefined);
    const record = recordOfSet(place, seen, 5);
    expect(recordIsTombstone(record)).to.equal(true);
    expect(joinSets(seen, one).siblings).to.deep.equal([]);
  });

  it('siblings: a set is over when all of its values are', () => {
    const one = addEvent(emptySet, actorOf(0), [], content('a', 1_000));
    const two = addEvent(one, actorOf(1), [], content('b', 3_000));
    expect(recordExpiresAt(recordOfSet(place, two, 5))).to.equal(3_000);
    expect(liveSiblings(two, 1_000).map(({ value }) => utf8.decode(value))).to.deep.equal(['b']);
    const three = addEvent(two, actorOf(2), [], content('c'));
    expect(recordExpiresAt(recordOfSet(place, three, 6))).to.equal(0);
  });

  it('siblings: a new epoch of a replica that lost its state overwrites nothing', () => {
    const before = addEvent(emptySet, { writer: 1, epoch: 1 }, [], content('kept by another'));
    const after = addEvent(emptySet, { writer: 1, epoch: 2 }, [], content('new'));
    expect(joinSets(before, after).siblings).to.have.lengthOf(2);
  });

  it('siblings: a context belongs to its key and is taken unchanged or not at all', () => {
    const record = recordOfSet(place, addEvent(emptySet, actorOf(0), [], content('a')), 5);
    const context = contextOf(record);
    expect(decodeContext(context, place.hash)).to.deep.equal([{ writer: 1, epoch: 7, counter: 1 }]);
    expect(decodeContext(contextOf(undefined), place.hash)).to.deep.equal([]);
    expect(codeThrownBy(() => decodeContext(context, place.hash + 1))).to.equal('BAD_REQUEST');
    for (let at = 0; at < context.length; at += 1) {
      const forged = context.slice();
      forged[at] = (forged[at] as number) ^ 1;
      expect(codeThrownBy(() => decodeContext(forged, place.hash))).to.equal('BAD_REQUEST');
      expect(codeThrownBy(() => decodeContext(context.subarray(0, at + 1), place.hash))).to.equal(
        at === context.length - 1 ? 'nothing was thrown' : 'BAD_REQUEST',
      );
    }
  });

  it('siblings: a single value is no set', () => {
    expect(codeThrownBy(() => setOf(makeRecord('key')))).to.equal('WRONG_TYPE');
  });
});
