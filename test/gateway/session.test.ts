// Sessions against replicas that lag: whatever each read is shown, the session never sees less
// than it wrote or saw before.

import { expect } from 'chai';
import fc from 'fast-check';
import {
  keyIdOf,
  recentMax,
  type Seen,
  Session,
  tokenLifeMs,
} from '../../actors/gateway/session.ts';
import { type Level, requiredAcks } from '../../actors/model/consistency.ts';
import {
  compareEtags,
  encodeRecord,
  type Etag,
  noEtag,
  storageKey,
} from '../../actors/model/record.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';
import { Sealer } from '../../runtime/seal.ts';

const nowMs = 1_700_000_000_000;
const sealer = new Sealer('secret');
const scope = { namespace: 0, replicas: 3, nowMs };
const idOf = (key: string): number => keyIdOf(storageKey(0, utf8.encode(key)));
const etagOf = (hlc: number): Etag => ({ hlc, writer: 1, incarnation: 1 });

function recordOf(hlc: number, expiresAt = 0): Uint8Array {
  const key = storageKey(0, utf8.encode('k'));
  const rest = { value: utf8.encode('v'), valueType: 0, isTombstone: false, version: 1 };
  return encodeRecord({ ...etagOf(hlc), ...rest, key, expiresAt, token: 0, hash: 0 });
}

/** What a read shows that found the stamp `hlc`, live or deleted. */
const seenOf = (hlc: number, isLive = true): Seen => ({
  ...(hlc === 0 ? noEtag : etagOf(hlc)),
  record: hlc > 0 && isLive ? recordOf(hlc) : undefined,
  nowMs,
});

function refusalOf(text: string, at = scope, by = sealer): string {
  try {
    Session.open(text, by, at);
  } catch (error) {
    if (error instanceof KvError && error.code === 'BAD_REQUEST')
      return String(error.fields['detail']);
    throw error;
  }
  return 'accepted';
}

describe('session', () => {
  it('session: SS-1: what it knows comes back from its token', () => {
    const session = new Session(0, 3);
    for (let i = 0; i <= recentMax; i += 1) session.wrote(idOf(`k${i}`), etagOf(100 + i), 0, 'ONE');
    const again = Session.open(session.seal(sealer, nowMs), sealer, scope);
    expect(again.seal(sealer, nowMs)).to.equal(session.seal(sealer, nowMs));
    expect(again.afterHlc(idOf('k1'))).to.equal(101);
    // The oldest has left the list; its stamp is the high water.
    expect(again.afterHlc(idOf('k0'))).to.equal(0);
    expect(again.firstLevel(idOf('k0'), 'ONE')).to.equal('ALL');
  });

  it('session: SS-5: a token that is forged, cut, expired or elsewhere’s is refused by name', () => {
    const session = new Session(0, 3);
    session.wrote(idOf('k'), etagOf(5), 0, 'QUORUM');
    const token = session.seal(sealer, nowMs);
    expect(refusalOf(token)).to.equal('accepted');
    expect(refusalOf(token, scope, new Sealer('other'))).to.contain(
      'not given out by this cluster',
    );
    expect(refusalOf(token, { ...scope, namespace: 1 })).to.contain('another namespace');
    expect(refusalOf(token, { ...scope, nowMs: nowMs + tokenLifeMs })).to.equal('accepted');
    expect(refusalOf(token, { ...scope, nowMs: nowMs + tokenLifeMs + 1000 })).to.contain(
      '24 hours',
    );
    expect(refusalOf('a'.repeat(5000))).to.contain('not given out');
    for (let length = 0; length < token.length; length += 1)
      expect(refusalOf(token.slice(0, length)), String(length)).to.contain('not given out');
    fc.assert(
      fc.property(
        fc.nat(token.length - 2),
        fc.constantFrom('A', 'Z', 'a', 'z', '0', '9', '-', '_'),
        (at, digit) => {
          fc.pre(token.charAt(at) !== digit);
          expect(refusalOf(token.slice(0, at) + digit + token.slice(at + 1))).to.contain(
            'not given',
          );
        },
      ),
    );
  });

  it('session: SS-2: a recent key is shown at what was written, or later', () => {
    const session = new Session(0, 3);
    session.wrote(idOf('k'), etagOf(50), 0, 'QUORUM');
    expect(session.accepts(idOf('k'), seenOf(49), 'ONE')).to.equal(false);
    expect(session.accepts(idOf('k'), seenOf(50), 'ONE')).to.equal(true);
    expect(session.accepts(idOf('k'), seenOf(51, false), 'ONE')).to.equal(true);
    expect(session.accepts(idOf('other'), seenOf(1), 'ONE')).to.equal(true);
  });

  it('session: SS-4: nothing is right where what it knows is deleted or expired', () => {
    const session = new Session(0, 3);
    session.wrote(idOf('live'), etagOf(50), 0, 'QUORUM');
    session.wrote(idOf('deleted'), etagOf(50), 1, 'QUORUM');
    session.wrote(idOf('expired'), etagOf(50), nowMs, 'QUORUM');
    session.wrote(idOf('expiring'), etagOf(50), nowMs + 1, 'QUORUM');
    const accepted = ['live', 'deleted', 'expired', 'expiring'].filter((key) =>
      session.accepts(idOf(key), seenOf(0), 'ALL'),
    );
    expect(accepted).to.deep.equal(['deleted', 'expired']);
    expect(session.accepts(idOf('deleted'), seenOf(49), 'ALL')).to.equal(false);
  });

  it('session: SS-3: it widens from one replica to a quorum to all', () => {
    const session = new Session(0, 3);
    const ladder = (['ONE', 'TWO', 'QUORUM', 'ALL'] as const).map((from) =>
      session.widerThan(from),
    );
    expect(ladder).to.deep.equal(['QUORUM', 'ALL', 'ALL', undefined]);
    expect(new Session(0, 1).widerThan('ONE')).to.equal(undefined);
  });

  it('session: a page is read at a level that misses nothing', () => {
    const session = new Session(0, 3);
    expect(session.pageLevel('ONE')).to.equal('ONE');
    session.wrote(idOf('a'), etagOf(1), 0, 'QUORUM');
    expect(session.pageLevel('ONE')).to.equal('QUORUM');
    expect(session.pageLevel('ALL')).to.equal('ALL');
    session.wrote(idOf('b'), etagOf(2), 0, 'ONE');
    expect(session.pageLevel('QUORUM')).to.equal('ALL');
    // The same record, read back from a quorum.
    session.saw(idOf('b'), seenOf(2), 'QUORUM');
    expect(session.pageLevel('QUORUM')).to.equal('QUORUM');
    session.sawPage([recordOf(9)], 'ONE');
    expect(session.pageLevel('QUORUM')).to.equal('ALL');
  });

  it('session: SS-2: a key that it knows is not shown older than a page has shown it', () => {
    const session = new Session(0, 3);
    session.wrote(idOf('k'), etagOf(5), 0, 'QUORUM');
    session.sawPage([recordOf(9)], 'ONE');
    expect(session.accepts(idOf('k'), seenOf(5), 'ONE')).to.equal(false);
    expect(session.accepts(idOf('k'), seenOf(9), 'ONE')).to.equal(true);
    session.sawPage([recordOf(7)], 'QUORUM');
    expect(session.accepts(idOf('k'), seenOf(8), 'QUORUM'), 'an older page').to.equal(false);
  });

  it('session: reads its writes and never goes back, at any level, through replicas that lag', () => {
    const levels: readonly Level[] = ['ONE', 'QUORUM', 'ALL'];
    const step = fc.record({
      isWrite: fc.boolean(),
      isMine: fc.boolean(),
      key: fc.nat(80),
      level: fc.constantFrom(...levels),
      order: fc.shuffledSubarray([0, 1, 2], { minLength: 3 }),
    });
    let widened = 0;
    fc.assert(
      fc.property(fc.array(step, { minLength: 150, maxLength: 400 }), (steps) => {
        const replicas = [0, 1, 2].map(() => new Map<number, Etag>());
        const known = new Map<number, Etag>();
        let session = new Session(0, 3);
        let hlc = 0;
        const holds = (replica: number, key: number): Etag => replicas[replica]?.get(key) ?? noEtag;
        const newest = (among: readonly number[], key: number): Etag =>
          among
            .map((replica) => holds(replica, key))
            .reduce((a, b) => (compareEtags(a, b) >= 0 ? a : b));
        const spread = (among: readonly number[], key: number, etag: Etag): void => {
          for (const replica of among)
            if (compareEtags(holds(replica, key), etag) < 0) replicas[replica]?.set(key, etag);
        };
        const read = (key: number, order: readonly number[], level: Level): Etag => {
          const asked = order.slice(0, requiredAcks(level, 3));
          const found = newest(asked, key);
          if (level !== 'ONE') spread(asked, key, found);
          if (session.accepts(key, { ...seenOf(found.hlc), ...found }, level)) {
            session.saw(key, { ...seenOf(found.hlc), ...found }, level);
            return found;
          }
          const wider = session.widerThan(level);
          if (wider === undefined) throw new Error(`key ${key}: nothing satisfies the session`);
          widened += 1;
          return read(key, order, wider);
        };
        for (const { isWrite, isMine, key, level, order } of steps) {
          if (isWrite) {
            hlc += 1;
            const etag = etagOf(hlc);
            spread(order.slice(0, requiredAcks(level, 3)), key, etag);
            if (!isMine) continue;
            session.wrote(key, etag, 0, level);
            known.set(key, etag);
          } else {
            const found = read(key, order, session.firstLevel(key, level));
            expect(compareEtags(found, known.get(key) ?? noEtag)).to.be.at.least(0);
            known.set(key, found);
          }
          session = Session.open(session.seal(sealer, nowMs), sealer, scope);
        }
      }),
      { numRuns: 60 },
    );
    expect(widened).to.be.above(0);
  });
});
