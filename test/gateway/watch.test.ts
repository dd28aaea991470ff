// The parts of a watch by themselves: the buffer of changes, positions and gaps, what is remembered,
// the text of events.

import { expect } from 'chai';
import { ChangeFeed } from '../../actors/gateway/change-feed.ts';
import { changeEvent, withId } from '../../actors/gateway/watch-events.ts';
import { WatchMemory } from '../../actors/gateway/watch-memory.ts';
import { type Moment, WatchStream } from '../../actors/gateway/watch-stream.ts';
import { gapSettleMs, WatchPositions } from '../../actors/gateway/watch-positions.ts';
import { Ring } from '../../actors/model/ring.ts';
import { encodeRecord, recordKey, storageKey, valueTypes } from '../../actors/model/record.ts';
import { EventStreamParser } from '../../cli/client/event-stream.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';

interface Fields {
  readonly hlc?: number;
  readonly value?: string;
  readonly expiresAt?: number;
  readonly isTombstone?: boolean;
  readonly namespace?: number;
}

const record = (key: string, fields: Fields = {}): Uint8Array =>
  encodeRecord({
    key: storageKey(fields.namespace ?? 0, utf8.encode(key)),
    value: utf8.encode(fields.value ?? '1'),
    valueType: valueTypes.json,
    hlc: fields.hlc ?? 1_000_000,
    writer: 1,
    incarnation: 1,
    version: 1,
    expiresAt: fields.expiresAt ?? 0,
    isTombstone: fields.isTombstone ?? false,
    isSerial: false,
    token: 0,
    hash: 0,
  });

const prefixOf = (text: string): Uint8Array => storageKey(0, utf8.encode(text));
const keysOf = (records: readonly Uint8Array[]): string[] =>
  records.map((one) => utf8.decode(recordKey(one).subarray(4)));

/** Three copies, or one on each node of a smaller cluster. */
const ringOf = (members: readonly string[], virtualNodes = 4): Ring =>
  new Ring({ members, virtualNodes, replicationFactor: 3 });

const at = (monotonicMs: number): Moment => ({
  wallMs: 1_700_000_000_000 + monotonicMs,
  monotonicMs,
});

describe('watch: buffer of changes', () => {
  const feedOf = (count: number, bytesMax = 1_000_000): ChangeFeed => {
    const feed = new ChangeFeed('e', bytesMax, recordKey);
    for (let i = 1; i <= count; i += 1) feed.add(record(`${i % 2 === 0 ? 'a' : 'b'}${i}`));
    return feed;
  };

  it('feed: gives what begins with the prefix, in order, and says how far it has looked', () => {
    const feed = feedOf(5);
    expect(feed.read({ epoch: 'e', after: 0, prefix: prefixOf('b') }, 1000)).to.deep.include({
      next: 5,
      isGap: false,
      isHead: true,
    });
    const { records } = feed.read({ epoch: 'e', after: 1, prefix: prefixOf('b') }, 1000);
    expect(keysOf(records)).to.deep.equal(['b3', 'b5']);
    expect(
      keysOf(feed.read({ epoch: 'e', after: 5, prefix: prefixOf('') }, 1000).records),
    ).to.deep.equal([]);
    feed.add(record('x', { namespace: 7 }));
    expect(feed.read({ epoch: 'e', after: 5, prefix: prefixOf('') }, 1000).records).to.deep.equal(
      [],
    );
  });

  it('feed: an answer ends at its bytes and goes on there', () => {
    const feed = feedOf(4);
    const first = feed.read({ epoch: 'e', after: 0, prefix: prefixOf('') }, 1);
    expect([keysOf(first.records), first.next, first.isHead]).to.deep.equal([['b1'], 1, false]);
    const rest = feed.read({ epoch: 'e', after: 1, prefix: prefixOf('') }, 1000);
    expect([keysOf(rest.records), rest.isHead]).to.deep.equal([['a2', 'b3', 'a4'], true]);
  });

  it('feed: stays within its bytes, and what was dropped is a gap (records=20000)', () => {
    const feed = feedOf(20_000, 10_000);
    expect(feed.bytes).to.be.within(9_000, 10_000);
    const lost = feed.read({ epoch: 'e', after: 10, prefix: prefixOf('') }, 1000);
    expect(lost).to.deep.equal({
      epoch: 'e',
      next: 20_000,
      records: [],
      isGap: true,
      isHead: true,
    });
    const kept = feed.read({ epoch: 'e', after: 19_998, prefix: prefixOf('') }, 1000);
    expect(keysOf(kept.records)).to.deep.equal(['b19999', 'a20000']);
  });

  it('feed: another epoch, or a number that was never given, is a gap', () => {
    const feed = feedOf(3);
    for (const [epoch, after] of [
      ['other', 1],
      ['', 0],
      ['e', 4],
      ['e', -1],
    ] as const)
      expect(feed.read({ epoch, after, prefix: prefixOf('') }, 1000).isGap).to.equal(true);
  });

  it('feed: one record larger than the whole buffer is a gap, not an error', () => {
    const feed = feedOf(1, 200);
    feed.add(record('big', { value: `"${'x'.repeat(1000)}"` }));
    expect([feed.bytes, feed.head]).to.deep.equal([0, 2]);
    expect(feed.read({ epoch: 'e', after: 1, prefix: prefixOf('') }, 1000).isGap).to.equal(true);
  });
});

describe('watch: positions', () => {
  const question = prefixOf('p');
  const read = (positions: WatchPositions, node: string, nowMs: number, isGap = false): boolean =>
    positions.read(node, { epoch: `e${node}`, after: nowMs }, { isGap, isHead: true, nowMs });
  const three = (): WatchPositions => {
    const positions = new WatchPositions(ringOf(['a', 'b', 'c']));
    for (const node of ['a', 'b', 'c'])
      positions.set(node, { epoch: 'e', after: 0, gapMs: 0, headMs: 1 });
    return positions;
  };

  it('positions: one gap among three loses nothing, a second one at the same time may', () => {
    const positions = three();
    expect(read(positions, 'a', 100, true)).to.equal(true);
    expect(read(positions, 'a', 200, true)).to.equal(true);
    expect(read(positions, 'b', 300, true)).to.equal(false);
  });

  it('positions: a gap is over when all others have been read to their end after it', () => {
    const positions = three();
    read(positions, 'a', 100, true);
    read(positions, 'b', 100 + gapSettleMs);
    expect(positions.get('a').gapMs).to.equal(100);
    read(positions, 'c', 99 + gapSettleMs);
    expect(positions.get('a').gapMs).to.equal(100);
    read(positions, 'c', 100 + gapSettleMs);
    expect(positions.get('a').gapMs).to.equal(0);
    expect(read(positions, 'b', 200 + gapSettleMs, true)).to.equal(true);
  });

  it('positions: a single copy bears no gap, and a node that was never reached counts as one', () => {
    const alone = new WatchPositions(ringOf(['a']));
    alone.set('a', { epoch: 'e', after: 0, gapMs: 0, headMs: 1 });
    expect(read(alone, 'a', 5)).to.equal(true);
    expect(read(alone, 'a', 6, true)).to.equal(false);
    const positions = new WatchPositions(ringOf(['a', 'b', 'c']));
    positions.set('a', { epoch: 'e', after: 0, gapMs: 0, headMs: 1 });
    expect(positions.isEstablished).to.equal(false);
    positions.set('b', { epoch: 'e', after: 0, gapMs: 0, headMs: 1 });
    expect(positions.isEstablished).to.equal(true);
    expect(read(positions, 'a', 7, true)).to.equal(false);
  });

  it('positions: in a large cluster any nodes may be away that are no majority of a range', () => {
    const members = Array.from({ length: 30 }, (_, i) => `n${i}`);
    const ring = ringOf(members, 1);
    const shareRange = (a: string, b: string): boolean =>
      ring.replicaLists().some((list) => list.includes(a) && list.includes(b));
    const away = members.reduce<readonly string[]>(
      (chosen, node) => (chosen.some((one) => shareRange(one, node)) ? chosen : [...chosen, node]),
      [],
    );
    expect(away.length).to.be.above(5);
    const neighbour = members.find((node) => !away.includes(node)) ?? '';
    const found = (isFound: (node: string) => boolean): WatchPositions => {
      const positions = new WatchPositions(ring);
      for (const node of members)
        if (isFound(node)) positions.set(node, { epoch: 'e', after: 0, gapMs: 0, headMs: 1 });
      return positions;
    };
    expect(found((node) => !away.includes(node)).isEstablished).to.equal(true);
    const fewer = found((node) => !away.includes(node) && node !== neighbour);
    expect(fewer.isEstablished, 'two of three of a range').to.equal(false);
    const positions = found(() => true);
    for (const node of away) expect(read(positions, node, 100, true), node).to.equal(true);
    expect(read(positions, neighbour, 100, true)).to.equal(false);
  });

  it('positions: as text and back; other questions, damage and endless text are refused', () => {
    const positions = three();
    read(positions, 'a', 1_767_225_600_000, true);
    const text = positions.text(question);
    const again = new WatchPositions(ringOf(['a', 'b', 'c']));
    again.resume(text, question, 7);
    expect(again.text(question)).to.equal(text);
    const bad = [
      '',
      'x',
      '2.2',
      `${text}.x`,
      `${text},`,
      `${text},a:e:-1:0`,
      text.replace('2.', '1.'),
      `${text}${',a:e:1:1'.repeat(2000)}`,
    ];
    for (const one of bad) expect(() => again.resume(one, question, 7), one).to.throw(KvError);
    expect(() => again.resume(text, prefixOf('q'), 7)).to.throw(/another prefix/);
    const smaller = new WatchPositions(ringOf(['a']));
    smaller.resume(text, question, 7);
    expect(smaller.get('b').epoch).to.equal('');
  });
});

describe('watch: positions elsewhere', () => {
  const question = prefixOf('p');
  const feedAt = { epoch: 'e', after: 0, gapMs: 0 };

  it('positions: a watch that goes on elsewhere trusts no clock of before', () => {
    // Read to their ends on a node that runs for long: here these times would be far ahead.
    const before = new WatchPositions(ringOf(['a', 'b']));
    for (const node of ['a', 'b']) before.set(node, { ...feedAt, headMs: 1_000_000 });
    const here = new WatchPositions(ringOf(['a', 'b']));
    here.resume(before.text(question), question, 50);
    const gap = { isGap: true, isHead: true, nowMs: 60 };
    expect(here.read('a', { epoch: 'new', after: 0 }, gap)).to.equal(true);
    expect(here.read('b', { epoch: 'new', after: 0 }, gap), 'both are gone').to.equal(false);
  });

  it('positions: a gap that was open is open elsewhere too', () => {
    const before = new WatchPositions(ringOf(['a', 'b']));
    before.set('a', { ...feedAt, gapMs: 5, headMs: 0 });
    before.set('b', { ...feedAt, headMs: 1_000_000 });
    const here = new WatchPositions(ringOf(['a', 'b']));
    here.resume(before.text(question), question, 50);
    const gap = { isGap: true, isHead: true, nowMs: 60 };
    expect(here.read('b', { epoch: 'new', after: 0 }, gap)).to.equal(false);
  });
});

describe('watch: memory of a stream', () => {
  it('memory: older and equal records of a key are no news, newer ones are', () => {
    const memory = new WatchMemory();
    const told = [5, 5, 4, 6, 3, 7].map((hlc) => memory.isNews(record('k', { hlc })));
    expect(told).to.deep.equal([true, false, false, true, false, true]);
    expect(memory.isNews(record('k2', { hlc: 1 }))).to.equal(true);
    memory.clear();
    expect(memory.isNews(record('k', { hlc: 1 }))).to.equal(true);
  });

  it('memory: an expiry is told once, of the newest record, not of a deleted one', () => {
    const memory = new WatchMemory();
    memory.isNews(record('a', { hlc: 1, expiresAt: 1500 }));
    memory.isNews(record('b', { hlc: 1, expiresAt: 1500 }));
    memory.isNews(record('c', { hlc: 1, expiresAt: 1500 }));
    memory.isNews(record('b', { hlc: 2, expiresAt: 9000 }));
    memory.isNews(record('c', { hlc: 2, isTombstone: true }));
    expect(memory.takeExpired(1999)).to.deep.equal([]);
    expect(keysOf(memory.takeExpired(2000))).to.deep.equal(['a']);
    expect(memory.takeExpired(8999)).to.deep.equal([]);
    expect(keysOf(memory.takeExpired(9000))).to.deep.equal(['b']);
  });

  it('memory: forgets the oldest beyond its bytes (keys=20000)', () => {
    const memory = new WatchMemory();
    for (let i = 0; i < 20_000; i += 1) memory.isNews(record(`key-${i}`, { expiresAt: 1000 }));
    expect(memory.isNews(record('key-19999'))).to.equal(false);
    expect(memory.isNews(record('key-0'))).to.equal(true);
    expect(memory.takeExpired(1000).length).to.be.within(1000, 10_000);
  });
});

describe('watch: a stream', () => {
  it('stream: the id stands for what was told, not for what waits behind it', () => {
    const stream = new WatchStream({
      ring: ringOf(['a']),
      prefix: prefixOf(''),
      withValues: true,
    });
    const reply = (next: number, records: Uint8Array[]) => ({
      epoch: 'e',
      next,
      records,
      isGap: false,
      isHead: true,
    });
    stream.found('a', reply(0, []), 1);
    stream.begin(undefined);
    const value = JSON.stringify('x'.repeat(200_000));
    for (let i = 1; i <= 3; i += 1)
      expect(stream.take('a', reply(i, [record(`k${i}`, { value })]), at(i))).to.equal(true);
    expect([stream.isFull, stream.position('a').after]).to.deep.equal([true, 3]);
    const toldBy = (): number => {
      const ids = [...utf8.decode(stream.drain()).matchAll(/^id: (.*)$/gm)];
      const id = ids.at(-1)?.[1] ?? '';
      const positions = new WatchPositions(ringOf(['a']));
      positions.resume(id, prefixOf(''), 7);
      return positions.get('a').after;
    };
    expect([toldBy(), toldBy(), stream.hasNews]).to.deep.equal([2, 3, false]);
  });

  it('stream: the beginning has an id of its own, also where much comes with it at once', () => {
    const stream = new WatchStream({
      ring: ringOf(['a']),
      prefix: prefixOf(''),
      withValues: false,
    });
    const reply = { epoch: 'e', next: 4, records: [], isGap: false, isHead: true };
    stream.found('a', reply, 1);
    stream.begin(undefined);
    stream.take('a', { ...reply, next: 5, records: [record('k1')] }, at(2));
    stream.take('a', { ...reply, next: 6, records: [record('k2')] }, at(3));
    const events = new EventStreamParser().feed(stream.drain());
    const afters = events.map(({ name, id }) => `${name} ${/:e:(\d+):/.exec(id)?.[1] ?? 'none'}`);
    expect(afters).to.deep.equal(['ready 4', 'put 4', 'put 6']);
  });

  it('stream: what has nothing to tell moves the id as well, in its turn', () => {
    const stream = new WatchStream({
      ring: ringOf(['a']),
      prefix: prefixOf(''),
      withValues: false,
    });
    const quiet = { epoch: 'e', records: [], isGap: false, isHead: true };
    stream.found('a', { ...quiet, next: 0 }, 1);
    stream.take('a', { ...quiet, next: 5 }, at(2));
    expect(stream.hasNews).to.equal(false);
    stream.begin(undefined);
    stream.take('a', { ...quiet, next: 7 }, at(3));
    // The beginning has its own id; the next answer, a sign of life, has this one.
    expect(utf8.decode(stream.drain())).to.include('a:e:5:0');
    expect(utf8.decode(stream.drain())).to.include('a:e:7:0');
    expect(stream.take('a', { ...quiet, next: 9, isGap: true }, at(4))).to.equal(false);
  });
});

describe('watch: text of events', () => {
  const parsed = (bytes: Uint8Array, chunk = 1): { name: string; data: string; id: string }[] => {
    const parser = new EventStreamParser('start');
    const events = [];
    for (let i = 0; i < bytes.length; i += chunk)
      events.push(...parser.feed(bytes.subarray(i, i + chunk)));
    return events;
  };

  it('events: a reader gets the value as it was put, whatever its line breaks (chunks of 1 and 7)', () => {
    const value = '{"a":\n[1,\r\n2],\r"é\u2028":"\\n"}';
    const bytes = withId([changeEvent(record('k é', { value }), true, 0)], 'x.1');
    for (const chunk of [1, 7, 10_000]) {
      const [event, ...more] = parsed(bytes, chunk);
      expect([event?.name, event?.id, more.length]).to.deep.equal(['put', 'x.1', 0]);
      const document = JSON.parse(event?.data ?? '') as { key: string; value: unknown };
      expect(document.key).to.equal('k é');
      expect(document.value).to.deep.equal(JSON.parse(value));
    }
  });

  it('events: what is left to live is never below 0, and is told without the value too', () => {
    const put = record('k', { expiresAt: 5000 });
    for (const withValues of [true, false])
      for (const [nowMs, left] of [
        [900, 5],
        [5000, 0],
        [9000, 0],
      ] as const) {
        const [event] = parsed(withId([changeEvent(put, withValues, nowMs)], 'x'));
        const document = JSON.parse(event?.data ?? '') as object;
        expect(document).to.include({ ttl_remaining: left, expires_at: 5000 });
      }
  });

  it('events: the id belongs to the last event, and alone it is kept without an event', () => {
    const events = ['a', 'b'].map((key) => changeEvent(record(key), false, 0));
    expect(parsed(withId(events, 'x')).map(({ id }) => id)).to.deep.equal(['start', 'x']);
    const parser = new EventStreamParser();
    expect(parser.feed(withId([new Uint8Array(0)], 'y'))).to.deep.equal([]);
    expect(parser.id).to.equal('y');
  });

  it('events: comments, unknown fields and an event without end are no events', () => {
    expect(parsed(utf8.encode(': hi\nretry: 5\nfoo\n\ndata:1\ndata\n\ndata: cut'))).to.deep.equal([
      { name: 'message', data: '1\n', id: 'start' },
    ]);
  });
});
