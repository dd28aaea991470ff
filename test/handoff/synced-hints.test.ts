// Hints whose keeper says when they are on the disk: what a log of batches relies on (BL-4).

import { expect } from 'chai';
import { refTo } from '../../runtime/actor.ts';
import { hintKeeper } from '../../actors/handoff/hint-keeper.actor.ts';
import { encodeHint } from '../../actors/handoff/hint-format.ts';
import { HintKeeper } from '../../actors/handoff/protocol.ts';
import { MemoryDisk } from '../kit-disk.ts';
import { makeRecord } from '../kit-replication.ts';
import { Kit } from '../kit.ts';

const target = refTo(HintKeeper, 'n1');

async function start(disk: MemoryDisk, changes: object = {}): Promise<Kit> {
  const kit = new Kit([HintKeeper], { disk });
  const bounds = {
    windowMs: 60_000,
    countedMs: 600_000,
    bytesMax: 1_000_000,
    bytesPerSecond: 1_000_000,
  };
  await kit.spawn(hintKeeper, { directory: 'hints', ...bounds, reserveBytes: 0, ...changes });
  return kit;
}

const hint = (key: string) => ({ node: 'n2', record: makeRecord(key) });

describe('handoff: synced hints', () => {
  it('hints: the answer comes after a sync of the file that holds the hint, for all who wait', async () => {
    const disk = new MemoryDisk();
    const synced: string[] = [];
    disk.beforeSync = (path) => void synced.push(path);
    const kit = await start(disk);
    kit.kernel.tell(target, 'keep', hint('plain'));
    const asked = ['a', 'b'].map((key) => kit.ask(target, 'keepSynced', hint(key)));
    await kit.host.advance(200);
    expect(asked.map(({ reply }) => reply)).to.deep.equal([{}, {}]);
    expect(synced.filter((path) => path.startsWith('hints/n2.'))).to.not.deep.equal([]);
    const stats = kit.ask(target, 'stats', {});
    await kit.host.settle();
    expect(stats.reply?.nodes[0]?.hints).to.equal(3);
  });

  it('hints: a sync that fails is said, and the next hint is synced in another file', async () => {
    const disk = new MemoryDisk();
    disk.beforeSync = (path) => (path.endsWith('.hints') ? new Error('broken') : undefined);
    const kit = await start(disk);
    const lost = kit.ask(target, 'keepSynced', hint('a'));
    await kit.host.advance(200);
    expect(lost.failure?.code).to.equal('DISK_FAILED');
    disk.beforeSync = () => undefined;
    const kept = kit.ask(target, 'keepSynced', hint('b'));
    await kit.host.advance(200);
    expect(kept.reply).to.deep.equal({});
    expect(disk.list('hints').filter((name) => name.endsWith('.hints'))).to.have.lengthOf(2);
  });

  it('hints: where none is kept the answer says so', async () => {
    for (const changes of [{ windowMs: 0 }, { bytesMax: 10 }]) {
      const kit = await start(new MemoryDisk(), changes);
      const refused = kit.ask(target, 'keepSynced', hint('a'));
      await kit.host.settle();
      expect(refused.failure?.code).to.equal('UNAVAILABLE');
    }
  });

  it('hints: the free space is asked for once a second, and what is written meanwhile counts', async () => {
    const disk = new MemoryDisk();
    let asked = 0;
    const { length } = encodeHint({ createdMs: 1, isCounted: false, record: hint('key-0').record });
    let free = 3 * length;
    disk.freeBytes = () => {
      asked += 1;
      return free;
    };
    const kit = await start(disk, { reserveBytes: length });
    const keep = async (): Promise<number> => {
      for (let n = 0; n < 9; n += 1) {
        kit.kernel.tell(target, 'keep', hint(`key-${n}`));
        await kit.host.settle();
      }
      const stats = kit.ask(target, 'stats', {});
      await kit.host.settle();
      return stats.reply?.nodes[0]?.hints ?? 0;
    };
    expect(await keep()).to.equal(3);
    await kit.host.advance(999);
    expect(await keep(), 'nothing else was heard of the disk').to.equal(3);
    expect(asked).to.equal(1);
    free = 100 * length;
    await kit.host.advance(1);
    expect(await keep()).to.equal(12);
    expect(asked).to.equal(2);
  });
});
