// The search for an order, beside one that tries them all, and where many writes are open.

import { expect } from 'chai';
import fc from 'fast-check';
import { isLinearizable, type RegisterOperation } from '../../sim/linearizability.ts';

type State = string | undefined;

/** Every state that the operation can leave behind where `state` was; none where it does not fit. */
function after(state: State, operation: RegisterOperation): readonly State[] {
  const { kind, value, expected, wasMet, endMs } = operation;
  if (kind === 'read') return value === state ? [state] : [];
  if (kind === 'write') return [value];
  if (kind === 'delete') return [undefined];
  if (endMs !== Infinity && wasMet !== (expected === state)) return [];
  return [expected === state ? value : state];
}

/** By trying every order of every choice of the open operations. */
function hasOrder(left: readonly RegisterOperation[], state: State): boolean {
  const answered = left.filter(({ endMs }) => endMs !== Infinity);
  if (answered.length === 0) return true;
  const earliestEnd = Math.min(...answered.map(({ endMs }) => endMs));
  return left.some(
    (operation) =>
      operation.startMs <= earliestEnd &&
      after(state, operation).some((next) =>
        hasOrder(
          left.filter((other) => other !== operation),
          next,
        ),
      ),
  );
}

const value = fc.constantFrom(undefined, 'a', 'b', 'c');
const written = fc.constantFrom('a', 'b', 'c');
const operation: fc.Arbitrary<RegisterOperation> = fc
  .record({
    kind: fc.constantFrom('read' as const, 'write' as const, 'delete' as const, 'cas' as const),
    ...{ found: value, written, expected: value, wasMet: fc.boolean() },
    startMs: fc.nat(12),
    tookMs: fc.nat(6),
    isOpen: fc.boolean(),
  })
  .map(({ kind, found, written, expected, wasMet, startMs, tookMs, isOpen }) => ({
    kind,
    value: kind === 'read' ? found : kind === 'delete' ? undefined : written,
    ...(kind === 'cas' ? { expected, wasMet } : {}),
    startMs,
    endMs: isOpen && kind !== 'read' ? Infinity : startMs + tookMs,
  }));

const put = (text: string, startMs: number, endMs = Infinity): RegisterOperation => ({
  ...{ kind: 'write', value: text, startMs, endMs },
});
const read = (found: State, startMs: number): RegisterOperation => ({
  ...{ kind: 'read', value: found, startMs, endMs: startMs + 1 },
});
const change = (expected: string, to: string, startMs: number): RegisterOperation => ({
  ...{ kind: 'cas', value: to, expected, startMs, endMs: Infinity },
});

describe('linearizability', () => {
  it('linearizability: says of every small history what trying all orders says', () => {
    let orders = 0;
    let histories = 0;
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 7 }), (operations) => {
        const expected = hasOrder(operations, undefined);
        histories += 1;
        if (expected) orders += 1;
        expect(isLinearizable(operations)).to.equal(expected ? 'yes' : 'no');
      }),
      { numRuns: 3_000, seed: 7 },
    );
    expect(orders, 'some have one').to.be.greaterThan(histories / 20);
    expect(orders, 'and some have none').to.be.lessThan((histories * 19) / 20);
  });

  it('linearizability: sixty writes whose answers were lost do not drown the search', () => {
    const texts = ['a', 'b', 'c', 'd'];
    const open = Array.from({ length: 60 }, (_, i) => {
      const [from = '', to = ''] = [texts[i % 4], texts[(i * 7 + 1) % 4]];
      return i % 3 === 0 ? put(to, i) : change(from, to, i);
    });
    const before = [put('a', 0, 1), read('a', 2)];
    expect(isLinearizable([...before, ...open, read('d', 100), read('d', 102)])).to.equal('yes');
    expect(isLinearizable([...before, ...open, read('e', 100)]), 'nobody wrote it').to.equal('no');
    // One write of it is open, and it was overwritten by an answered one in between.
    const twice = [put('e', 50), read('e', 100), put('a', 102, 103), read('e', 104)];
    expect(isLinearizable([...before, ...open, ...twice])).to.equal('no');
  });
});
