// Cursors go on with exactly the question that they were given out for.

import { expect } from 'chai';
import fc from 'fast-check';
import {
  type CursorScope,
  type CursorSeal,
  decodeCursor,
  encodeCursor,
} from '../../actors/gateway/cursor.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';
import { Sealer } from '../../runtime/seal.ts';

const scope: CursorScope = { kind: 'list', namespace: 0, filter: utf8.encode('user:') };
const nowMs = 1_700_000_000_000;
const seal: CursorSeal = { sealer: new Sealer('cluster'), nowMs };
const cursor = encodeCursor(scope, utf8.encode('user:17'), seal);

function refusalOf(text: string, other: CursorScope = scope, now: CursorSeal = seal): string {
  try {
    decodeCursor(text, other, now);
  } catch (error) {
    if (error instanceof KvError && error.code === 'BAD_REQUEST')
      return String(error.fields['detail']);
    throw error;
  }
  return 'accepted';
}

describe('cursor', () => {
  it('cursor: any key of 1 to 1,024 bytes comes back as it was', () => {
    const bytes = fc.uint8Array({ minLength: 1, maxLength: 1024 });
    fc.assert(
      fc.property(bytes, fc.uint8Array(), fc.nat(0xffff_ffff), (key, filter, namespace) => {
        const own: CursorScope = { kind: 'scan', namespace, filter };
        const text = encodeCursor(own, key, seal);
        expect(text).to.match(/^[A-Za-z0-9_-]+$/);
        expect([...decodeCursor(text, own, seal)]).to.deep.equal([...key]);
      }),
    );
  });

  it('cursor: any change of one character is refused', () => {
    fc.assert(
      fc.property(
        fc.nat(cursor.length - 1),
        fc.constantFrom(...'AZaz09-_ /=%'.split('')),
        (at, digit) => {
          fc.pre(cursor.charAt(at) !== digit);
          const text = cursor.slice(0, at) + digit + cursor.slice(at + 1);
          // The last digit carries bits that mean nothing: then it is the same cursor.
          const outcome = refusalOf(text);
          if (outcome === 'accepted') expect(at).to.equal(cursor.length - 1);
          else expect(outcome).to.contain('start again without a cursor');
        },
      ),
    );
  });

  it('cursor: any cut is refused', () => {
    for (let length = 1; length < cursor.length; length += 1)
      expect(refusalOf(cursor.slice(0, length)), String(length)).to.not.equal('accepted');
  });

  it('cursor: it says what it belongs to instead', () => {
    expect(refusalOf(cursor, { ...scope, kind: 'scan' })).to.contain('not given out by a scan');
    expect(refusalOf(cursor, { ...scope, namespace: 1 })).to.contain('another namespace');
    expect(refusalOf(cursor, { ...scope, filter: utf8.encode('x') })).to.contain('another prefix');
    expect(refusalOf('A'.repeat(5000))).to.contain('not a cursor');
    expect(refusalOf(cursor)).to.equal('accepted');
  });

  it('cursor: it is good for a day, and for the cluster that gave it out', () => {
    const dayMs = 24 * 3_600_000;
    expect(refusalOf(cursor, scope, { ...seal, nowMs: nowMs + dayMs })).to.equal('accepted');
    const late = refusalOf(cursor, scope, { ...seal, nowMs: nowMs + dayMs + 1 });
    expect(late).to.contain('older than 24 hours');
    const strange = refusalOf(cursor, scope, { sealer: new Sealer('other'), nowMs });
    expect(strange).to.contain('of another cluster');
  });
});
