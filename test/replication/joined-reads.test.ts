// Reads of a hot key that are answered together, without an actor: the test is the one who reads.

import { expect } from 'chai';
import fc from 'fast-check';
import { utf8 } from '../../runtime/bytes.ts';
import { type Failure, failure } from '../../runtime/errors.ts';
import type { Level } from '../../actors/model/consistency.ts';
import {
  JoinedReads,
  type ReadTarget,
  type SharedRead,
} from '../../actors/replication/joined-reads.ts';
import type { ReadReply } from '../../actors/replication/protocol.ts';

const replyAt = (hlc: number): ReadReply => ({
  record: undefined,
  hlc,
  writer: 0,
  incarnation: 0,
  nowMs: 0,
  coordinator: 'n1',
  explanation: undefined,
});

const target = (key: string, level: Level = 'QUORUM', hash = 7): ReadTarget => ({
  key: utf8.encode(key),
  hashes: { token: hash, hash },
  level,
});

interface Asked {
  readonly replies: ReadReply[];
  readonly failures: Failure[];
}

/** Starts reads as a coordinator does; the test ends them. */
class Reader {
  nowMs = 0;
  /** In flight, oldest first. */
  readonly running: SharedRead[] = [];
  started = 0;
  readonly joined: JoinedReads;

  constructor(above = 0, onStart?: (read: SharedRead) => void) {
    this.joined = new JoinedReads({
      above,
      start: (read) => {
        read.startedMs = this.nowMs;
        this.started += 1;
        this.running.push(read);
        onStart?.(read);
      },
    });
  }

  ask(what: ReadTarget = target('key'), deadlineMs = 1_000): Asked {
    const asked: Asked = { replies: [], failures: [] };
    const answers = {
      resolve: (reply: ReadReply): void => void asked.replies.push(reply),
      fail: (problem: Failure): void => void asked.failures.push(problem),
    };
    this.joined.join(what, { answers, required: 2, deadlineMs });
    return asked;
  }

  /** The oldest read in flight ends with `outcome`. */
  end(outcome: number | Failure = 1): void {
    const read = this.running.shift();
    if (read === undefined) throw new Error('no read is in flight');
    if (typeof outcome === 'number') read.resolve(replyAt(outcome));
    else read.fail(outcome);
  }
}

const hlcs = ({ replies }: Asked): number[] => replies.map(({ hlc }) => hlc);

describe('joined reads', () => {
  it('joined reads: who comes while a read is in flight is answered by the next one, with all others', () => {
    const reader = new Reader();
    const first = reader.ask();
    const second = reader.ask();
    const third = reader.ask();
    expect(reader.started, 'reads of the replicas').to.equal(1);
    reader.end(1);
    expect([first, second, third].map(hlcs)).to.deep.equal([[1], [], []]);
    expect(reader.started, 'reads of the replicas').to.equal(2);
    const fourth = reader.ask();
    reader.end(2);
    expect([first, second, third, fourth].map(hlcs)).to.deep.equal([[1], [2], [2], []]);
    reader.end(3);
    expect(hlcs(fourth)).to.deep.equal([3]);
    expect(reader.started, 'reads of the replicas').to.equal(3);
    expect(reader.joined.waiting).to.equal(0);
  });

  it('joined reads: nobody is left behind: the read after the last one starts at once', () => {
    const reader = new Reader();
    reader.ask();
    reader.end();
    const later = reader.ask();
    expect(reader.started).to.equal(2);
    reader.end(5);
    expect(hlcs(later)).to.deep.equal([5]);
  });

  it('joined reads: other levels, and other keys with the same hash, are read apart', () => {
    const reader = new Reader();
    const asked = [target('a'), target('a', 'ONE'), target('b')].map((what) => reader.ask(what));
    expect(reader.started).to.equal(3);
    for (const hlc of [1, 2, 3]) reader.end(hlc);
    expect(asked.map(hlcs)).to.deep.equal([[1], [2], [3]]);
  });

  it('joined reads: a failure is that of everyone who waited for the read, and of nobody else', () => {
    const reader = new Reader();
    const first = reader.ask();
    const joined = [reader.ask(), reader.ask()];
    const problem = failure('UNAVAILABLE', { required: 2, alive: 1 });
    reader.end(1);
    const later = reader.ask();
    reader.end(problem);
    reader.end(2);
    expect(first.failures).to.deep.equal([]);
    for (const { failures } of joined) expect(failures).to.deep.equal([problem]);
    expect(hlcs(later)).to.deep.equal([2]);
  });

  it('joined reads: a deadline is that of one waiter: the others go on (500 ms, 900 ms)', () => {
    const reader = new Reader();
    reader.ask();
    const hasty = reader.ask(target('key'), 500);
    const patient = reader.ask(target('key'), 900);
    expect(reader.joined.expire(499), 'the next deadline').to.equal(500);
    expect(hasty.failures).to.deep.equal([]);
    expect(reader.joined.expire(500), 'the next deadline').to.equal(900);
    const over = { code: 'TIMEOUT', fields: { required: 2, received: 0 } };
    expect(hasty.failures).to.deep.equal([over]);
    reader.end(1);
    expect(reader.running[0]?.deadlineMs, 'of the shared read').to.equal(900);
    reader.end(2);
    expect(hlcs(patient)).to.deep.equal([2]);
    expect(hlcs(hasty)).to.deep.equal([]);
  });

  it('joined reads: whose time ends during the shared read hears how many had answered', () => {
    const reader = new Reader();
    const asked = reader.ask(target('key'), 500);
    const [read] = reader.running;
    if (read !== undefined) read.received = () => 1;
    expect(reader.joined.expire(500)).to.equal(Infinity);
    const over = { code: 'TIMEOUT', fields: { required: 2, received: 1 } };
    expect(asked.failures).to.deep.equal([over]);
    reader.end(1);
    expect(asked.replies).to.deep.equal([]);
    expect(reader.joined.waiting).to.equal(0);
  });

  it('joined reads: no read starts for those who have all given up', () => {
    const reader = new Reader();
    reader.ask();
    reader.ask(target('key'), 500);
    reader.joined.expire(500);
    reader.end();
    expect(reader.started).to.equal(1);
    reader.ask();
    expect(reader.started).to.equal(2);
  });

  it('joined reads: those behind a slow read get one of their own, and it may end first', () => {
    const reader = new Reader();
    const slow = reader.ask();
    const behind = reader.ask();
    reader.nowMs = 100;
    reader.joined.startBehind(-1);
    expect(reader.started).to.equal(1);
    reader.joined.startBehind(0);
    expect(reader.started).to.equal(2);
    const later = reader.ask();
    const [oldest] = reader.running.splice(0, 1);
    reader.end(2);
    expect([behind, later].map(hlcs)).to.deep.equal([[2], []]);
    oldest?.resolve(replyAt(1));
    expect(hlcs(slow)).to.deep.equal([1]);
    expect(reader.started, 'the slow one starts nothing').to.equal(3);
    reader.end(3);
    expect(hlcs(later)).to.deep.equal([3]);
    expect(reader.joined.waiting).to.equal(0);
  });

  it('joined reads: a read that ends in the turn that starts it', () => {
    const reader = new Reader(0, (read) => read.resolve(replyAt(9)));
    const asked = [reader.ask(), reader.ask()];
    expect(asked.map(hlcs)).to.deep.equal([[9], [9]]);
    expect(reader.started).to.equal(2);
    expect(reader.joined.waiting).to.equal(0);
  });

  it('joined reads: a key is hot with so many reads in flight, no other key is (above=3)', () => {
    const { joined } = new Reader(3);
    const hash = 0xabcd_ef01;
    for (const isHot of [false, false, false, true]) {
      expect(joined.isHot(hash)).to.equal(isHot);
      joined.began(hash);
    }
    // The shard is chosen by the lowest bits, the place in the table by the highest.
    expect(joined.isHot(0x1234_ef01)).to.equal(false);
    joined.ended(hash);
    joined.ended(hash);
    expect(joined.isHot(hash)).to.equal(false);
  });

  it('joined reads: a key stays hot as long as one shared read follows the other (above=2)', () => {
    const reader = new Reader(2);
    const { joined } = reader;
    const { hash } = target('key').hashes;
    reader.ask();
    joined.began(hash);
    expect(joined.isHot(hash), 'one in flight, which is shared').to.equal(true);
    expect(joined.isHot(hash + 1), 'another key of the same place').to.equal(false);
    reader.ask();
    joined.ended(hash);
    reader.end();
    expect(joined.isHot(hash), 'the next one in flight').to.equal(true);
    reader.end();
    expect(joined.isHot(hash)).to.equal(false);
  });

  it('joined reads: each has one answer, of a read that started after it had come (property)', () => {
    const step = fc.record({
      kind: fc.constantFrom('ask', 'ask', 'ask', 'end', 'fail', 'behind', 'expire'),
      which: fc.nat(5),
      patience: fc.integer({ min: 1, max: 40 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const reader = new Reader(0, (read) => startOf.set(read, reader.nowMs));
        const startOf = new Map<SharedRead, number>();
        const all: {
          readonly cameMs: number;
          readonly deadlineMs: number;
          readonly asked: Asked;
        }[] = [];
        const finish = (at: number, hasFailed: boolean): void => {
          const [read] = reader.running.splice(at % Math.max(1, reader.running.length), 1);
          if (read === undefined) return;
          const startedMs = startOf.get(read) as number;
          if (hasFailed) read.fail(failure('UNAVAILABLE', { startedMs }));
          else read.resolve(replyAt(startedMs));
        };
        for (const { kind, which, patience } of steps) {
          // Every step has a moment of its own.
          reader.nowMs += 1;
          if (kind === 'ask') {
            const deadlineMs = reader.nowMs + patience;
            const asked = reader.ask(target(`key-${which % 2}`), deadlineMs);
            all.push({ cameMs: reader.nowMs, deadlineMs, asked });
          } else if (kind === 'behind') reader.joined.startBehind(reader.nowMs - which);
          else if (kind === 'expire') reader.joined.expire(reader.nowMs);
          else finish(which, kind === 'fail');
        }
        while (reader.running.length > 0) {
          reader.nowMs += 1;
          finish(0, false);
        }
        for (const { cameMs, deadlineMs, asked } of all) {
          expect(asked.replies.length + asked.failures.length, 'answers').to.equal(1);
          for (const { hlc } of asked.replies) expect(hlc, 'start of its read').to.be.least(cameMs);
          for (const { code, fields } of asked.failures)
            if (code === 'TIMEOUT') expect(deadlineMs).to.be.most(reader.nowMs);
            else expect(fields['startedMs'], 'start of its read').to.be.least(cameMs);
        }
        expect(reader.joined.waiting).to.equal(0);
      }),
    );
  });
});
