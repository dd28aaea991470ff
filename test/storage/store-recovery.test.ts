// A start over tables that the manifest names and that cannot be opened: refused by their names, or
// left out where the operator accepts the loss (MF-6).

import { expect } from 'chai';
import { storageKey } from '../../actors/model/record.ts';
import { decodeFooter, footerBytes } from '../../actors/storage/sstable-format.ts';
import { tablePath } from '../../actors/storage/table-files.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { MemoryDisk } from '../kit-disk.ts';
import { NodeUnderTest, shardDirectory } from './node-under-test.ts';

const keys = ['a', 'b', 'c'];

/** One table for each key, of the same level. */
async function diskWithThreeTables(): Promise<MemoryDisk> {
  const disk = new MemoryDisk();
  const node = await NodeUnderTest.running(disk);
  for (const key of keys) {
    await node.write(new Map([[key, key.repeat(100)]]));
    await node.flush();
  }
  node.end();
  return disk;
}

const found = async (node: NodeUnderTest): Promise<string> => {
  const answers = await node.read(keys.map((key) => storageKey(0, utf8.encode(key))));
  return keys.filter((_, i) => answers[i]?.reply?.record !== undefined).join('');
};

/** Where a part of the table lies. */
function placeOf(bytes: Uint8Array, part: 'index' | 'filter' | 'properties' | 'footer'): number {
  const footerAt = bytes.length - footerBytes;
  if (part === 'footer') return footerAt + 8;
  return decodeFooter('t', bytes.length, bytes.subarray(footerAt))[part].offset + 6;
}

describe('store recovery', () => {
  for (const part of ['footer', 'index', 'filter', 'properties'] as const)
    it(`store recovery: a table that cannot be opened is refused, or left out once (damaged=${part})`, async () => {
      const disk = await diskWithThreeTables();
      const path = tablePath(shardDirectory, 2);
      const bytes = disk.read(path) as Uint8Array;
      const at = placeOf(bytes, part);
      disk.put(path, bytes.with(at, (bytes[at] as number) ^ 1));
      const refused = await NodeUnderTest.start(disk);
      expect(refused).to.be.instanceOf(Error);
      const { message } = refused as Error;
      expect(message).to.match(/^CORRUPT: corrupt data in /);
      expect(message)
        .to.contain(path)
        .and.to.contain('--accept-data-loss starts with what is left');
      const accepting = await NodeUnderTest.start(disk, true);
      if (!(accepting instanceof NodeUnderTest)) throw accepting;
      expect(await found(accepting)).to.equal('ac');
      accepting.end();
      expect(await found(await NodeUnderTest.running(disk))).to.equal('ac');
    });

  it('store recovery: all tables that are gone or damaged are left out together', async () => {
    const disk = await diskWithThreeTables();
    disk.remove(tablePath(shardDirectory, 1));
    disk.put(tablePath(shardDirectory, 3), new Uint8Array(5));
    const accepting = await NodeUnderTest.start(disk, true);
    if (!(accepting instanceof NodeUnderTest)) throw accepting;
    expect(await found(accepting)).to.equal('b');
  });
});
