// Records from peers with larger settings, and from a log: what does not fit into the memtables of
// this node is refused before anything of it is in the log, where it would be found by every start.

import { expect } from 'chai';
import { heldBytes } from '../../actors/storage/admission.ts';
import { heldBytesMax } from '../../actors/node/sizes.ts';
import { recordKey } from '../../actors/model/record.ts';
import { MemoryDisk } from '../kit-disk.ts';
import { NodeUnderTest, smallTunables } from './node-under-test.ts';
import { makeRecord } from './records-under-test.ts';

/** A record that holds so much, its entry in the index included. */
function recordOf(key: string, held: number): Uint8Array {
  const rest = heldBytes(makeRecord(key, { value: '' }).length, 1);
  return makeRecord(key, { value: new Uint8Array(held - rest).fill(7) });
}

async function expectFound(node: NodeUnderTest, records: readonly Uint8Array[]): Promise<void> {
  const answers = await node.read(records.map((record) => recordKey(record)));
  expect(answers.map(({ reply }) => reply?.record)).to.deep.equal(records);
}

describe('record sizes', () => {
  const limit = heldBytesMax(smallTunables);
  const { memtableBytes } = smallTunables;

  it('record sizes: what does not fit into a memtable is refused, and the node goes on', async () => {
    const disk = new MemoryDisk();
    const node = await NodeUnderTest.running(disk);
    for (const held of [limit + 1, 4 * limit]) {
      const { failure } = await node.apply(recordOf('large', held));
      const fields = { records: 1, bytes: held, max: limit };
      expect(failure).to.deep.equal({ code: 'TOO_LARGE', fields });
    }
    const small = makeRecord('small');
    expect((await node.apply(small)).failure).to.equal(undefined);
    await expectFound(node, [small]);
    node.end();
    await expectFound(await NodeUnderTest.running(disk), [small]);
  });

  it('record sizes: the largest fits on top of a memtable that is nearly full', async () => {
    const disk = new MemoryDisk();
    const node = await NodeUnderTest.running(disk);
    const count = Math.floor((memtableBytes - 1) / 4096);
    const records = Array.from({ length: count }, (_, i) => recordOf(`key-${i}`, 4096));
    records.push(recordOf('last', memtableBytes - 1 - count * 4096), recordOf('large', limit));
    for (const record of records) expect((await node.apply(record)).failure).to.equal(undefined);
    await expectFound(node, records);
    node.end();
    await expectFound(await NodeUnderTest.running(disk), records);
  });
});
