// The pool of background threads: tasks by name, their results and errors, bounds, and the
// priority of its threads.

import { expect } from 'chai';
import { crc32, utf8 } from '../../runtime/bytes.ts';
import { BugError } from '../../runtime/errors.ts';
import { loadCodecModules } from '../../runtime/host/codec-modules.ts';
import { createTaskPool, type TaskPool } from '../../runtime/host/task-pool.ts';
import { createCodecs } from '../../runtime/block-codecs.ts';
import type { CompressedBlock, PackInput } from '../../runtime/tasks.ts';
import { codeRejectedBy } from '../kit.ts';

const codecModules = loadCodecModules();

describe('task pool', () => {
  let pool: TaskPool;

  before(() => {
    pool = createTaskPool({ threadsMin: 1, threadsMax: 1, codecModules, queueLengthMax: 2 });
  });

  after(() => pool.close());

  it('task pool: blocks come back compressed, in order, with their checksums', async () => {
    const blocks = ['a', 'b', 'c'].map((letter) => utf8.encode(letter.repeat(5000)));
    const codecs = createCodecs(codecModules);
    for (const codec of ['lz4', 'zstd'] as const) {
      const packed = await pool.run<PackInput, CompressedBlock[]>('compress-blocks', {
        blocks,
        codec,
      });
      const back = packed.map(({ bytes }) => utf8.decode(codecs[codec].decompress(bytes, 5000)));
      expect(back).to.deep.equal(blocks.map((block) => utf8.decode(block)));
      expect(packed.map(({ crc }) => crc)).to.deep.equal(packed.map(({ bytes }) => crc32(bytes)));
    }
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
