// How a log ends (rule WAL-10): clean, torn or corrupt. Enumerated, not sampled: each bit of a
// small log is changed, and its tail is cut at each byte.

import { expect } from 'chai';
import { concatBytes } from '../../runtime/bytes.ts';
import { Prng } from '../../runtime/prng.ts';
import { encodeSegmentHeader, segmentHeaderSpace } from '../../actors/storage/wal-format.ts';
import {
  type BuiltSegment,
  buildLog,
  identity,
  type LogRecord,
  readLog,
} from './log-under-test.ts';
import { hexes } from './records-under-test.ts';

const payloadOf = (lsn: number, length = 21): Uint8Array =>
  new Uint8Array(length).map((_, i) => (lsn * 31 + i * 7) & 0xff);

/** Records 1 to 9 in three segments; 7 is a mark, and 8 and 9 are not known to be durable. */
const records: readonly LogRecord[] = [1, 2, 3, 4, 5, 6, 7, 8, 9].map((lsn) => ({
  lsn,
  durableLsn: [0, 0, 1, 1, 3, 4, 6, 7, 7][lsn - 1] as number,
  payload: lsn === 7 ? new Uint8Array(0) : payloadOf(lsn),
  isMark: lsn === 7,
}));
const log = (): BuiltSegment[] =>
  buildLog([records.slice(0, 3), records.slice(3, 5), records.slice(5)]);
const dataLsns = [1, 2, 3, 4, 5, 6, 8, 9];
/** A later record or a later segment proves these durable. */
const provenLsn = 7;

const lastOf = (segments: readonly BuiltSegment[]): BuiltSegment =>
  segments[segments.length - 1] as BuiltSegment;

/** The log with other bytes in its last segment. */
const withLast = (segments: readonly BuiltSegment[], bytes: Uint8Array): BuiltSegment[] => [
  ...segments.slice(0, -1),
  { ...lastOf(segments), bytes },
];

/** Zeros from `at` on. */
function cutAt(bytes: Uint8Array, at: number): Uint8Array {
  return bytes.slice().fill(0, at);
}

describe('segment-reader: clean ends', () => {
  it('wal: all records of three segments come back, marks do not', () => {
    const segments = log();
    const { verdict, lsns, payloads } = readLog(segments);
    expect(verdict).to.include({ kind: 'end', lastLsn: 9, offset: lastOf(segments).end });
    expect(lsns).to.deep.equal(dataLsns);
    expect(hexes(payloads)).to.deep.equal(hexes(dataLsns.map((lsn) => payloadOf(lsn))));
  });

  for (const zeros of [0, 1, 7, 8, 4096])
    it(`wal: a tail of zeros is a clean end (zeros=${zeros})`, () => {
      const segments = buildLog([records.slice(0, 3), records.slice(3)], { zeros });
      expect(readLog(segments)).to.deep.include({ lsns: dataLsns });
      expect(readLog(segments).verdict.kind).to.equal('end');
    });

  it('wal: a segment that was begun and not used is a clean end', () => {
    const segments = buildLog([records.slice(0, 3), []]);
    expect(readLog(segments)).to.deep.include({ lsns: [1, 2, 3] });
    expect(readLog(segments).verdict).to.include({ kind: 'end', lastLsn: 3 });
  });

  it('wal: what an earlier recovery cut does not come back (WAL-12)', () => {
    // Records 4 and 5 were cut; the next segment begins after 3 and uses their numbers again.
    const before = buildLog([records.slice(0, 5)]);
    const after = buildLog([records.slice(0, 3), records.slice(3, 4)]);
    const segments = [before[0] as BuiltSegment, after[1] as BuiltSegment];
    const { verdict, lsns } = readLog(segments);
    expect(verdict.kind).to.equal('end');
    expect(lsns).to.deep.equal([1, 2, 3, 4]);
  });
});

describe('segment-reader: torn tails', () => {
  it('wal: cut anywhere in the last unproven records, the log ends at the record before', () => {
    const segments = log();
    const { bytes, offsets, end } = lastOf(segments);
    const from = offsets[2] as number;
    for (let at = from + 1; at < end; at += 1) {
      const { verdict, lsns } = readLog(withLast(segments, cutAt(bytes, at)));
      const whole = at >= (offsets[3] as number) ? [8] : [];
      const isBoundary = at === offsets[3];
      expect(verdict.kind, `cut at ${at}`).to.equal(isBoundary ? 'end' : 'torn');
      expect(lsns, `cut at ${at}`).to.deep.equal([1, 2, 3, 4, 5, 6, ...whole]);
    }
  });

  it('wal: a file that ends within a record is torn there (each length)', () => {
    const segments = log();
    const { bytes, offsets, end } = lastOf(segments);
    for (let length = (offsets[3] as number) + 1; length < end; length += 1) {
      const { verdict, lsns } = readLog(withLast(segments, bytes.slice(0, length)));
      expect(verdict, String(length)).to.include({ kind: 'torn', offset: offsets[3], lastLsn: 8 });
      expect(lsns).to.deep.equal([1, 2, 3, 4, 5, 6, 8]);
    }
  });

  it('wal: an intact record of the same unsynced window goes with the torn one before it', () => {
    const segments = log();
    const { bytes, offsets } = lastOf(segments);
    const damaged = bytes.slice().fill(0, (offsets[2] as number) + 32, offsets[3]);
    const { verdict, lsns } = readLog(withLast(segments, damaged));
    expect(verdict).to.include({ kind: 'torn', lastLsn: 7, offset: offsets[2] });
    expect(lsns).to.deep.equal([1, 2, 3, 4, 5, 6]);
  });

  it('wal: a segment whose making was cut short is passed over (each length of its header)', () => {
    const [first, second] = buildLog([records.slice(0, 3), []], { zeros: 0 });
    for (let length = 0; length < segmentHeaderSpace; length += 61) {
      const unborn = cutAt((second as BuiltSegment).bytes, length);
      // The last four bytes are the CRC: without them it is no header.
      const { verdict } = readLog([{ number: 2, bytes: unborn }]);
      expect(verdict.kind, String(length)).to.equal('unborn');
      expect(readLog([first as BuiltSegment]).lsns).to.deep.equal([1, 2, 3]);
    }
  });
});

describe('segment-reader: damage', () => {
  it('wal: any changed bit gives the same records, a cut of unproven ones, or corrupt', () => {
    const segments = log();
    const outcomes = { same: 0, cut: 0, corrupt: 0 };
    for (const [number, { bytes }] of segments.entries())
      for (let bit = 0; bit < bytes.length * 8; bit += 1) {
        // Each bit of the records and of the header's fields, every 16th of its zeros.
        if (bit > 800 && bit < (segmentHeaderSpace - 8) * 8 && bit % 16 !== 0) continue;
        const damaged = bytes.slice();
        damaged[bit >> 3] = (damaged[bit >> 3] as number) ^ (1 << (bit & 7));
        const copy = segments.map((one, i) => (i === number ? { ...one, bytes: damaged } : one));
        const { verdict, lsns } = readLog(copy);
        const where = `bit ${bit} of segment ${number + 1}: ${verdict.kind}`;
        if (verdict.kind === 'corrupt') {
          outcomes.corrupt += 1;
          continue;
        }
        expect(verdict.kind, where).to.be.oneOf(['end', 'torn']);
        const kept = dataLsns.slice(0, lsns.length);
        expect(lsns, where).to.deep.equal(kept);
        const lost = dataLsns.slice(lsns.length);
        expect(
          lost.every((lsn) => lsn > provenLsn),
          where,
        ).to.equal(true);
        if (lost.length === 0) outcomes.same += 1;
        else outcomes.cut += 1;
      }
    // Only zeros behind the last record of the first two segments may change unseen.
    expect(outcomes.same).to.equal(3 * 64 * 8);
    const last = lastOf(segments);
    expect(outcomes.cut).to.equal((last.end - (last.offsets[2] as number)) * 8);
    expect(outcomes.corrupt).to.be.greaterThan(10_000);
  });

  it('wal: damage in a segment that is not the last is corrupt, also at its very end', () => {
    const segments = log();
    const first = segments[0] as BuiltSegment;
    const cut = { ...first, bytes: cutAt(first.bytes, first.offsets[2] as number) };
    const { verdict } = readLog([cut, ...segments.slice(1)]);
    expect(verdict).to.include({ kind: 'corrupt', offset: first.offsets[2] });
  });

  it('wal: a log that ends before what is in tables is corrupt (flushed through 10, 9 and 8)', () => {
    const kinds = [10, 9, 8].map(
      (flushedThrough) => readLog(log(), { flushedThrough }).verdict.kind,
    );
    expect(kinds).to.deep.equal(['corrupt', 'end', 'end']);
  });

  it('wal: more damaged bytes than could be in flight are corrupt', () => {
    const segments = buildLog([
      [...records.slice(0, 8), { ...records[8], payload: payloadOf(9, 500) } as LogRecord],
    ]);
    const { bytes, offsets } = lastOf(segments);
    const damaged = withLast(segments, cutAt(bytes, bytes.length - 80));
    const extent = bytes.length - 80 - (offsets[8] as number);
    expect(readLog(damaged, { inFlightBytesMax: extent }).verdict.kind).to.equal('torn');
    expect(readLog(damaged, { inFlightBytesMax: extent - 1 }).verdict.kind).to.equal('corrupt');
  });

  it('wal: old bytes of another segment behind the end are torn, never records', () => {
    const older = buildLog([records], { firstNumber: 1 });
    const [current] = buildLog([records.slice(0, 3)], { firstNumber: 2, zeros: 2000 });
    const { bytes, end } = current as BuiltSegment;
    const recycled = bytes.slice();
    const rest = (older[0] as BuiltSegment).bytes.subarray(end, (older[0] as BuiltSegment).end);
    recycled.set(rest, end);
    const { verdict, lsns } = readLog([{ number: 2, bytes: recycled }]);
    expect(verdict).to.include({ kind: 'torn', offset: end });
    expect(lsns).to.deep.equal([1, 2, 3]);
  });

  it('wal: random bytes are never records (seeds=200)', () => {
    const [segment] = buildLog([records.slice(0, 2)], { zeros: 0 });
    const { bytes } = segment as BuiltSegment;
    for (let seed = 1; seed <= 200; seed += 1) {
      const noisy = concatBytes([bytes, new Prng(seed).bytes(600)]);
      const { verdict, lsns } = readLog([{ number: 1, bytes: noisy }]);
      expect(verdict.kind).to.equal('torn');
      expect(lsns).to.deep.equal([1, 2]);
    }
  });
});

describe('segment-reader: strangers', () => {
  for (const [what, change] of [
    ['another cluster', { clusterName: 'other' }],
    ['another node', { node: 'n2' }],
    ['another shard', { shard: 0 }],
    ['another kind', { kind: 'manifest' as const }],
    ['another number', { segmentNumber: 9 }],
  ] as const)
    it(`wal: a segment of ${what} is refused`, () => {
      const bytes = encodeSegmentHeader({
        kind: 'wal',
        ...identity,
        segmentNumber: 1,
        previousSegmentNumber: 0,
        previousLastLsn: 0,
        previousChain: 0,
        ...change,
      });
      expect(readLog([{ number: 1, bytes }]).verdict).to.include({ kind: 'refused', offset: 0 });
    });

  it('wal: an unknown type is refused, unless it may be ignored (WAL-13)', () => {
    const [plain, ignorable] = [0, 1].map((flags) =>
      readLog(
        buildLog([[{ ...records[0], type: 99, flags } as LogRecord, records[1] as LogRecord]]),
      ),
    );
    expect(plain?.verdict).to.include({ kind: 'refused', offset: segmentHeaderSpace });
    expect(ignorable?.verdict).to.include({ kind: 'end', lastLsn: 2 });
    expect(ignorable?.lsns).to.deep.equal([2]);
  });
});
