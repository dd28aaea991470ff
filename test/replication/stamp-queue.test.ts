// Who waits for a stamp, and who is refused one.

import { expect } from 'chai';
import { type Failure, failure, KvError } from '../../runtime/errors.ts';
import { StampQueue } from '../../actors/replication/stamp-queue.ts';
import { decodeBound, Stamper } from '../../actors/replication/stamper.ts';
import { MemoryDisk } from '../kit-disk.ts';
import { codeThrownBy } from '../kit.ts';

const wallMicros = 1_700_000_000_000_000;

class Stage {
  readonly disk = new MemoryDisk();
  readonly said: string[] = [];
  readonly bounds: number[] = [];
  refusal: Failure | undefined;
  nowMs = 0;
  /** Extensions that wait for the test. */
  readonly waiting: (() => Promise<void>)[] = [];
  readonly queue: StampQueue = new StampQueue(new Stamper(0), {
    clock: { monotonicMs: () => this.nowMs, wallMicros: () => wallMicros + this.nowMs * 1000 },
    disk: this.disk,
    boundPath: 'bound',
    inBackground: (work) => void this.waiting.push(work),
    onExtended: (bound) => this.queue.extended(bound),
    onNotExtended: (problem) => this.queue.notExtended(problem),
    refusal: () => this.refusal,
  });

  take(name: string, deadlineMs = 1_000): void {
    this.queue.take({
      deadlineMs,
      proceed: () => void this.said.push(`${name} proceeds`),
      fail: ({ code }) => void this.said.push(`${name}: ${code}`),
    });
  }

  async extend(): Promise<void> {
    await this.waiting.shift()?.();
  }
}

describe('stamp queue', () => {
  it('stamp queue: nobody proceeds before the bound is on the disk, then all do in order', async () => {
    const stage = new Stage();
    stage.take('a');
    stage.take('b');
    expect(stage.queue.tryStamp(0)).to.equal(undefined);
    expect([stage.said, stage.waiting.length]).to.deep.equal([[], 1]);
    await stage.extend();
    expect(stage.said).to.deep.equal(['a proceeds', 'b proceeds']);
    const bound = decodeBound(stage.disk.read('bound') ?? new Uint8Array(0), 'bound');
    const first = stage.queue.tryStamp(0);
    const second = stage.queue.tryStamp((first?.hlc ?? 0) + 100);
    expect(second?.hlc).to.be.above((first?.hlc ?? 0) + 100);
    expect(bound).to.be.above(second?.hlc ?? Infinity);
    expect(first?.nowMs).to.equal(wallMicros / 1000);
  });

  it('stamp queue: a bound that cannot be stored fails those who wait, the next one tries again', async () => {
    const stage = new Stage();
    stage.disk.beforeWrite = () => {
      throw new KvError('DISK_FULL');
    };
    stage.take('a');
    await stage.extend();
    expect(stage.said).to.deep.equal(['a: DISK_FULL']);
    stage.disk.beforeWrite = () => undefined;
    stage.take('b');
    await stage.extend();
    expect(stage.said).to.deep.equal(['a: DISK_FULL', 'b proceeds']);
  });

  it('stamp queue: whose time is over while it waits is not sent any more (WR-6)', async () => {
    const stage = new Stage();
    stage.take('a', 10);
    stage.nowMs = 11;
    await stage.extend();
    expect(stage.said).to.deep.equal(['a: UNAVAILABLE']);
  });

  it('stamp queue: after the last bound was written no stamp is given', async () => {
    const stage = new Stage();
    stage.take('a');
    await stage.extend();
    stage.refusal = failure('DRAINING');
    stage.take('b');
    expect(stage.said).to.deep.equal(['a proceeds', 'b: DRAINING']);
    expect(codeThrownBy(() => stage.queue.tryStamp(0))).to.equal('DRAINING');
  });
});
