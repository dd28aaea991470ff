// The rules by which writes are slowed down: by what merges take away, and the less the more tables
// wait; and while a memtable is written by what the last flushes took.

import { expect } from 'chai';
import { Admission } from '../../actors/storage/admission.ts';
import { WalWriter } from '../../actors/storage/protocol.ts';
import { FlushPacer, WritePace, WritePacer } from '../../actors/storage/write-pace.ts';
import { refTo } from '../../runtime/actor.ts';

const limits = { l0Tables: 4, waitingTablesMax: 20, memtableBytes: 1_000 };

describe('write pace', () => {
  it('write pace: below the soft limit the log takes all that comes, at the limit a fifth of what goes', () => {
    const pacer = new WritePacer(limits);
    expect(pacer.softLimit).to.equal(8);
    expect([0, 4, 7].map((waiting) => pacer.bytesPerSecond(waiting))).to.deep.equal([
      Infinity,
      Infinity,
      Infinity,
    ]);
    pacer.merged(1, 1_000);
    expect([20, 21, 1_000].map((waiting) => pacer.bytesPerSecond(waiting))).to.deep.equal([
      200, 200, 200,
    ]);
  });

  it('write pace: twice what merges take away at the soft limit, as much in the middle', () => {
    const pacer = new WritePacer(limits);
    // Six tables in two seconds, a thousand bytes each.
    pacer.merged(6, 2_000);
    pacer.flushed(1_000);
    expect([8, 14, 17].map((waiting) => pacer.bytesPerSecond(waiting))).to.deep.equal([
      6_000, 3_000, 1_500,
    ]);
  });

  it('write pace: each table more lets less through', () => {
    for (const waitingTablesMax of [5, 6, 20, 1_000]) {
      const pacer = new WritePacer({ ...limits, waitingTablesMax });
      let last = Infinity;
      for (let waiting = Math.ceil(pacer.softLimit); waiting <= waitingTablesMax; waiting += 1) {
        const rate = pacer.bytesPerSecond(waiting);
        expect(rate <= last && rate > 0).to.equal(true);
        if (rate > 100) expect(rate).to.be.lessThan(last);
        last = rate;
      }
      expect(last).to.equal(100);
    }
  });

  it('write pace: merges that take no waiting table away count with their time', () => {
    const pacer = new WritePacer(limits);
    pacer.merged(8, 4_000);
    const alone = pacer.bytesPerSecond(14);
    pacer.merged(0, 4_000);
    // Of the last merge all counts, of the one before four fifths.
    expect(pacer.bytesPerSecond(14) / alone).to.be.closeTo((0.8 * 4_000) / 7_200, 1e-9);
  });

  it('write pace: what a flush brings follows the last flushes', () => {
    const pacer = new WritePacer(limits);
    pacer.merged(1, 1_000);
    for (let i = 0; i < 20; i += 1) pacer.flushed(64);
    expect(pacer.bytesPerSecond(14)).to.be.closeTo(64, 0.01);
  });

  it('write pace: before any merge has ended it is a guess, not none and not nothing', () => {
    expect(new WritePacer(limits).bytesPerSecond(14)).to.equal(500);
  });
});

describe('write pace: flushes', () => {
  it('write pace: nothing is held up before a flush has shown how long one takes', () => {
    expect(new FlushPacer(1_000).bytesPerSecond).to.equal(Infinity);
  });

  it('write pace: a quarter more than the last flush wrote in its time', () => {
    const pacer = new FlushPacer(1_000);
    pacer.flushed(1_000, 500);
    expect(pacer.bytesPerSecond).to.equal(2_500);
    for (let i = 0; i < 40; i += 1) pacer.flushed(1_000, 2_000);
    expect(pacer.bytesPerSecond).to.be.closeTo(625, 1);
  });

  it('write pace: a flush of a small part of a memtable tells nothing', () => {
    const pacer = new FlushPacer(1_000);
    pacer.flushed(249, 5_000);
    expect(pacer.bytesPerSecond).to.equal(Infinity);
    pacer.flushed(1_000, 500);
    pacer.flushed(1, 5_000);
    expect(pacer.bytesPerSecond).to.equal(2_500);
  });

  it('write pace: a flush that took no time that can be seen holds nothing up', () => {
    const pacer = new FlushPacer(1_000);
    pacer.flushed(1_000, 0);
    expect(pacer.bytesPerSecond).to.equal(Infinity);
  });

  /** What the log is told, in turn, and the labels that are reached. */
  const paceUnderTest = () => {
    const seen = { nowMs: 0, told: [] as number[], reached: [] as string[] };
    const ctx = {
      shard: 0,
      clock: { monotonicMs: () => seen.nowMs, wallMicros: () => 0 },
      tell: (_to: unknown, _name: string, body: { readonly bytesPerSecond: number }) =>
        seen.told.push(body.bytesPerSecond),
      probe: { reach: (label: string) => seen.reached.push(label), buggify: () => false },
      log: { warn: () => undefined, info: () => undefined },
      metrics: { gauge: () => undefined },
    };
    const admission = new Admission(
      { memtableBytes: 1_000, inFlightBytes: 1_000, heldBytesMax: 1_000 },
      () => undefined,
    );
    const wal = refTo(WalWriter, 'n1');
    return { seen, pace: new WritePace(ctx as never, wal, limits, admission) };
  };

  it('write pace: from the second flush on the log is told when it begins and when it ends', () => {
    const { seen, pace } = paceUnderTest();
    pace.logs(1_000);
    pace.flushBegins(pace.freezes());
    seen.nowMs += 1_000;
    pace.flushEnds('written');
    expect(seen.told).to.deep.equal([]);
    pace.logs(1_000);
    pace.flushBegins(pace.freezes());
    expect(seen.told).to.deep.equal([1_250]);
    // What is logged meanwhile is of the next memtable.
    pace.logs(600);
    seen.nowMs += 500;
    pace.flushEnds('written');
    expect(seen.told).to.deep.equal([1_250, Infinity]);
    pace.logs(400);
    pace.flushBegins(pace.freezes());
    expect(seen.told.at(-1)).to.be.closeTo((1_800 / 1_300) * 1_250, 1e-9);
    expect(seen.reached).to.deep.equal([
      'writes slowed down by a flush',
      'writes slowed down by a flush',
    ]);
  });

  it('write pace: a flush that failed, or had nothing to write, tells nothing of how long one takes', () => {
    const { seen, pace } = paceUnderTest();
    pace.logs(1_000);
    pace.flushBegins(pace.freezes());
    seen.nowMs += 5_000;
    pace.flushEnds('kept');
    pace.logs(1_000);
    pace.logs(pace.freezes());
    // What was logged when there was nothing to freeze is in this one.
    pace.flushBegins(pace.freezes());
    seen.nowMs += 100;
    pace.flushEnds('written');
    expect(seen.told).to.deep.equal([]);
    pace.logs(1_000);
    pace.flushBegins(pace.freezes());
    expect(seen.told).to.deep.equal([12_500]);
  });

  it('write pace: of both limits the lower one counts', () => {
    const { seen, pace } = paceUnderTest();
    pace.logs(1_000);
    pace.flushBegins(pace.freezes());
    seen.nowMs += 1_000;
    pace.flushEnds('written');
    pace.owes(14);
    // The guess of half a table per second, before any merge.
    expect(seen.told).to.deep.equal([500]);
    pace.logs(1_000);
    pace.flushBegins(pace.freezes());
    pace.owes(0);
    expect(seen.told).to.deep.equal([500, 1_250]);
    pace.owes(14);
    pace.flushEnds('written');
    pace.owes(0);
    expect(seen.told).to.deep.equal([500, 1_250, 500, Infinity]);
  });
});
