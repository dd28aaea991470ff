// The list gives back what it was given, whatever chunks that takes; tables whose records were not
// counted before have the same filter as those whose were.

import { expect } from 'chai';
import { loadCodecModules } from '../../runtime/host/codec-modules.ts';
import { createCodecs } from '../../runtime/block-codecs.ts';
import { HashList } from '../../actors/storage/hash-list.ts';
import { SstableWriter } from '../../actors/storage/sstable-writer.ts';
import { MemoryDisk } from '../kit-disk.ts';
import { makeRecord } from './records-under-test.ts';

const codecs = createCodecs(loadCodecModules());
const hashOf = (n: number): number => Math.imul(n, 0x9e37_79b1) >>> 0;

function tableOf(records: readonly Uint8Array[], expectedRecords?: number): Uint8Array | undefined {
  const disk = new MemoryDisk();
  const writer = new SstableWriter(disk.open('7.sst', 'create'), 7, { codecs, expectedRecords });
  for (const record of records) writer.add(record);
  writer.finish();
  return disk.read('7.sst');
}

describe('hash list', () => {
  for (const count of [0, 1, 1024, 1025, 3072, 3073, 600_000])
    it(`hash list: gives all back in order (hashes=${count})`, () => {
      const list = new HashList();
      for (let n = 0; n < count; n += 1) list.add(hashOf(n));
      expect(list.length).to.equal(count);
      let seen = 0;
      let wrong = 0;
      list.forEach((hash) => {
        if (hash !== hashOf(seen)) wrong += 1;
        seen += 1;
      });
      expect({ seen, wrong }).to.deep.equal({ seen: count, wrong: 0 });
    });

  it('hash list: a table has the filter that it has where its records were counted before', () => {
    const keys = Array.from({ length: 5_000 }, (_, i) => `key:${String(i).padStart(6, '0')}`);
    const records = keys.map((key) => makeRecord(key));
    expect(tableOf(records)).to.deep.equal(tableOf(records, records.length));
  });
});
