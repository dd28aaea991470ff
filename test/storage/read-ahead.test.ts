// Reading ahead gives the bytes of the file, whatever the order of reads, with few reads where they
// are in order and not one byte more where they are not.

import { expect } from 'chai';
import fc from 'fast-check';
import { readAheadDisk } from '../../actors/storage/read-ahead.ts';
import type { Disk, DiskFile } from '../../runtime/environment.ts';
import { CorruptionError } from '../../runtime/errors.ts';
import { MemoryDisk } from '../kit-disk.ts';

const kiB = 1024;
const size = 1024 * kiB;
const content = Uint8Array.from({ length: size }, (_, i) => (i * 31) ^ (i >> 8));

interface Watched {
  readonly file: DiskFile;
  /** Lengths of the reads of the file below. */
  readonly reads: number[];
}

/** `badAt`: a byte that cannot be read. */
function opened(badAt = Infinity): Watched {
  const disk = new MemoryDisk();
  const made = disk.open('t', 'create');
  made.write(content, 0);
  const inner = disk.open('t', 'read');
  const reads: number[] = [];
  const read = (target: Uint8Array, position: number): number => {
    reads.push(target.length);
    if (badAt >= position && badAt < position + target.length)
      throw new CorruptionError('t', badAt, 'a bad sector');
    return inner.read(target, position);
  };
  const { path, write, sync, truncate, close } = inner;
  const bare = { path, size: () => inner.size(), read, write, sync, truncate, close };
  const open: Disk['open'] = () => bare;
  return { file: readAheadDisk({ ...(disk as Disk), open }).open('t', 'read'), reads };
}

function readAt(file: DiskFile, at: number, length: number): Uint8Array {
  const target = new Uint8Array(length);
  return target.subarray(0, file.read(target, at));
}

describe('read-ahead', () => {
  it('read-ahead: a scan of 64 blocks of 16 KiB takes eight reads', () => {
    const { file, reads } = opened();
    for (let at = 0; at < size; at += 16 * kiB)
      expect(readAt(file, at, 16 * kiB)).to.deep.equal(content.subarray(at, at + 16 * kiB));
    const expected = [16, 16, 64, 128, 256, 256, 256].map((length) => length * kiB);
    expect(reads).to.deep.equal([...expected, 32 * kiB]);
  });

  it('read-ahead: a scan that leaves out blocks goes on reading ahead, one that jumps does not', () => {
    const { file, reads } = opened();
    for (const block of [0, 1, 2, 3, 5, 9, 10, 14, 20, 21])
      expect(readAt(file, block * 16 * kiB, 16 * kiB)[1]).to.equal(content[block * 16 * kiB + 1]);
    const lengths = reads.map((length) => length / kiB);
    expect(lengths).to.deep.equal([16, 16, 64, 128, 16, 16]);
  });

  it('read-ahead: reads here and there read what they need', () => {
    const { file, reads } = opened();
    for (const at of [5, 3, 9, 9, 4, 60]) readAt(file, at * 16 * kiB, 16 * kiB);
    expect(reads).to.deep.equal(new Array(6).fill(16 * kiB));
  });

  it('read-ahead: what cannot be read is an error only to whom it concerns', () => {
    const { file } = opened(100 * kiB);
    for (let at = 0; at < 96 * kiB; at += 16 * kiB)
      expect(readAt(file, at, 16 * kiB)).to.deep.equal(content.subarray(at, at + 16 * kiB));
    expect(() => readAt(file, 96 * kiB, 16 * kiB)).to.throw(CorruptionError);
    expect(readAt(file, 112 * kiB, 16 * kiB)).to.have.length(16 * kiB);
  });

  it('read-ahead: any order of reads gives the bytes of the file', () => {
    const step = fc.record({
      jump: fc.boolean(),
      at: fc.nat({ max: size }),
      length: fc.nat(90_000),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const { file } = opened();
        let next = 0;
        for (const { jump, at, length } of steps) {
          const from = jump ? at : next;
          next = from + length;
          const expected = content.subarray(from, Math.min(next, size));
          expect(Buffer.compare(readAt(file, from, length), expected)).to.equal(0);
        }
      }),
      { numRuns: 50 },
    );
  });
});
