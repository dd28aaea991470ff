// The pool of background threads: tasks by name, their results and errors, bounds, and the
// priority of its threads.

import { expect } from 'chai';
import { equalBytes, noBytes, utf8, wordAligned } from '../../runtime/bytes.ts';
import { BugError } from '../../runtime/errors.ts';
import { loadCodecModules } from '../../runtime/host/codec-modules.ts';
import { createTaskPool, type TaskPool } from '../../runtime/host/task-pool.ts';
import { createCodecs } from '../../runtime/block-codecs.ts';
import { Prng } from '../../runtime/prng.ts';
import type { PackInput } from '../../runtime/tasks.ts';
import { codeRejectedBy } from '../kit.ts';

const codecModules = loadCodecModules();

const sharedBytes = (length: number): Uint8Array<SharedArrayBuffer> =>
  new Uint8Array(new SharedArrayBuffer(length));

describe('task pool', () => {
  let pool: TaskPool;

  before(() => {
    pool = createTaskPool({ threadsMin: 1, threadsMax: 1, codecModules, queueLengthMax: 2 });
  });

  after(() => pool.close());

  it('task pool: blocks come back packed, in order, in shared memory; what would grow is left out', async () => {
    const random = new Prng(1);
    const blocks = [
      ...['a', 'b'].map((letter, i) => utf8.encode(letter.repeat(5_000 + i))),
      random.bytes(4_998),
      utf8.encode('c'.repeat(4_000)),
    ];
    const raw = sharedBytes(20_000);
    let next = 0;
    const ends = blocks.map((block) => {
      raw.set(block, next);
      const end = next + block.length;
      next = wordAligned(end);
      return end;
    });
    const codecs = createCodecs(codecModules);
    for (const codec of ['lz4', 'zstd'] as const) {
      const packed = sharedBytes(raw.length);
      const input = { raw, ends, codec, packed };
      const packedEnds = await pool.run<PackInput, readonly number[]>('pack-blocks', input);
      const starts = [0, ...packedEnds];
      expect(starts[2]).to.equal(starts[3]);
      for (const i of [0, 1, 3]) {
        const block = packed.slice(starts[i], starts[i + 1]);
        const back = codecs[codec].decompress(block, blocks[i]?.length ?? 0);
        expect(equalBytes(back, blocks[i] ?? noBytes)).to.equal(true);
      }
    }
  });

  it('task pool: one that has tools of its own packs with LZ4 on its own thread, in a later turn (pool full)', async () => {
    const own = createTaskPool({
      threadsMin: 0,
      threadsMax: 1,
      codecModules,
      queueLengthMax: 0,
      ownTools: createCodecs(codecModules),
    });
    const pack = (codec: PackInput['codec']): Promise<readonly number[]> => {
      const raw = sharedBytes(4_000);
      return own.run('pack-blocks', { raw, ends: [4_000], codec, packed: sharedBytes(4_000) });
    };
    let isLater = false;
    setImmediate(() => {
      isLater = true;
    });
    const [packedEnd] = await pack('lz4');
    expect(isLater).to.equal(true);
    expect(packedEnd).to.be.within(1, 100);
    expect(await codeRejectedBy(pack('zstd'))).to.equal('OVERLOADED');
    expect(await codeRejectedBy(own.run('checksum', { parts: [] }))).to.equal('OVERLOADED');
    await own.close();
  });

  it('task pool: checksums are those of this thread', async () => {
    const parts = [new Uint8Array(0), utf8.encode('123456789')];
    const sums = await pool.run<unknown, number[]>('checksum', { parts });
    expect(sums).to.deep.equal([0, 0xcbf43926]);
  });

  it('task pool: an unknown task, also a name of every object, is a bug of its caller', async () => {
    for (const name of ['no-such-task', 'toString']) {
      const error = await pool.run(name, {}).catch((thrown: unknown) => thrown);
      expect(error)
        .to.be.instanceOf(BugError)
        .with.property('message', `task ${name}: there is no task ${name}`);
    }
  });

  it('task pool: what would wait beyond the bound is OVERLOADED (threads=1, waiting=2)', async () => {
    const input = { parts: [new Uint8Array(1_000_000)] };
    const runs = Array.from({ length: 6 }, () => pool.run('checksum', input));
    const codes = await Promise.all(runs.map(codeRejectedBy));
    expect(codes).to.include('OVERLOADED');
    expect(new Set(codes)).to.deep.equal(new Set(['nothing was thrown', 'OVERLOADED']));
    expect(await pool.run('checksum', { parts: [] })).to.deep.equal([]);
  });
});
