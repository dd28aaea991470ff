// Chunks that records are cut from are used again, and never while somebody may still read them:
// beside a log that acknowledges in any order and a memtable that is slow.

import { expect } from 'chai';
import fc from 'fast-check';
import { type RecordChunk, RecordChunks } from '../../cli/embedded/record-chunks.ts';

const sizes = { chunkBytes: 64, freeChunksMax: 4 };

/** Filled with its own byte, by which it is known again. */
interface TestRecord {
  readonly bytes: Uint8Array;
  readonly mark: number;
}

interface TestBatch {
  readonly records: TestRecord[];
  readonly chunks: RecordChunk[];
}

/** Writers, log and memtable, as far as they have to do with chunks. */
class Writes {
  readonly chunks: RecordChunks;
  readonly open: TestBatch[] = [];
  readonly failed: TestBatch[] = [];
  /** Distinct arrays that records were cut from. */
  readonly seen = new Set<ArrayBufferLike>();
  /** What waits in the mailbox of the memtable. */
  readonly #mail: (TestBatch | ((isInserted: boolean) => void))[] = [];
  #written = 0;

  constructor() {
    this.chunks = new RecordChunks((answered) => this.#mail.push(answered), sizes);
  }

  write(lengths: readonly number[], batch = this.#newBatch()): TestBatch {
    for (const length of lengths) {
      const bytes = this.chunks.take(length);
      expect(bytes).to.have.length(length);
      this.seen.add(bytes.buffer);
      this.#written += 1;
      const mark = (this.#written % 255) + 1;
      batch.records.push({ bytes: bytes.fill(mark), mark });
    }
    this.chunks.claim(batch.chunks);
    return batch;
  }

  #newBatch(): TestBatch {
    const batch = { records: [], chunks: [] };
    this.open.push(batch);
    return batch;
  }

  acknowledge(at: number): void {
    for (const batch of this.open.splice(at, 1)) {
      expectWhole(batch);
      this.#mail.push(batch);
      this.chunks.letGo(batch.chunks);
    }
  }

  memtableTurn(isInserted = true): void {
    const mail = this.#mail.shift();
    if (typeof mail === 'function') mail(isInserted);
    else if (mail !== undefined) expectWhole(mail);
  }

  everything(): void {
    while (this.open.length > 0) this.acknowledge(0);
    while (this.#mail.length > 0) this.memtableTurn();
  }
}

function expectWhole({ records }: TestBatch): void {
  for (const { bytes, mark } of records)
    expect(bytes.every((byte) => byte === mark)).to.equal(true);
}

describe('record chunks', () => {
  it('record chunks: no byte is used again before it is in the memtable', () => {
    const at = fc.nat({ max: 8 });
    const lengths = fc.array(fc.nat({ max: 40 }), { minLength: 1, maxLength: 6 });
    const step = fc.oneof(
      { weight: 4, arbitrary: fc.record({ write: lengths }) },
      { weight: 2, arbitrary: fc.record({ join: lengths }) },
      { weight: 4, arbitrary: fc.record({ acknowledge: at }) },
      { weight: 1, arbitrary: fc.record({ fail: at }) },
      // Records of a batch that is refused before it is whole.
      { weight: 1, arbitrary: fc.record({ refused: lengths }) },
      { weight: 4, arbitrary: fc.record({ turns: fc.nat({ max: 3 }) }) },
    );
    fc.assert(
      fc.property(fc.array(step, { minLength: 60, maxLength: 120 }), (steps) => {
        const writes = new Writes();
        const { open, failed } = writes;
        for (const step of steps) {
          if ('write' in step) writes.write(step.write);
          else if ('join' in step) writes.write(step.join, open.at(-1));
          else if ('acknowledge' in step) writes.acknowledge(step.acknowledge % (open.length + 1));
          else if ('refused' in step) step.refused.forEach(writes.chunks.take);
          else if ('fail' in step) failed.push(...open.splice(step.fail, 1));
          else for (let n = 0; n < step.turns; n += 1) writes.memtableTurn();
        }
        open.forEach(expectWhole);
        writes.everything();
        failed.forEach(expectWhole);
      }),
      { numRuns: 300 },
    );
  });

  it('record chunks: writes that are acknowledged make do with a few', () => {
    const writes = new Writes();
    for (let n = 0; n < 1_000; n += 1) {
      writes.write([20, 30]);
      if (n % 3 === 2) writes.everything();
    }
    expect(writes.seen.size).to.be.below(8);
  });

  it('record chunks: what nobody claimed goes with the next batch', () => {
    const writes = new Writes();
    for (let n = 0; n < 1_000; n += 1) {
      // A batch that was refused when some of its records were made.
      writes.chunks.take(20);
      writes.chunks.take(30);
      writes.write([20]);
      writes.everything();
    }
    expect(writes.seen.size).to.be.below(8);
  });

  it('record chunks: those of a failed batch, and of an answer that failed, are not used again', () => {
    const writes = new Writes();
    writes.write([30, 30]);
    writes.write([30, 30]);
    const held = new Set(writes.open.flatMap(({ records }) => records.map((r) => r.bytes.buffer)));
    writes.open.shift();
    writes.write([30]);
    writes.acknowledge(0);
    writes.acknowledge(0);
    for (let n = 0; n < 4; n += 1) writes.memtableTurn(false);
    writes.seen.clear();
    for (let n = 0; n < 50; n += 1) {
      writes.write([30]);
      writes.everything();
    }
    for (const buffer of held) expect(writes.seen.has(buffer)).to.equal(false);
  });

  it('record chunks: no more are kept than may be free', () => {
    const writes = new Writes();
    const batch = (): void => {
      writes.write(Array.from({ length: 100 }, () => 32));
      writes.everything();
    };
    batch();
    const first = new Set(writes.seen);
    writes.seen.clear();
    batch();
    const again = [...writes.seen].filter((buffer) => first.has(buffer));
    // And the one that was not full yet.
    expect(again.length).to.be.within(1, sizes.freeChunksMax + 1);
  });
});
