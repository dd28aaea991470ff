// Batches whose keys share a hash tag, in a whole cluster: what one replica shows of them.

import { expect } from 'chai';
import { recordKey, recordValue, storageKey, userKey } from '../../actors/model/record.ts';
import { BatchWriter, Replica } from '../../actors/replication/protocol.ts';
import { refTo } from '../../runtime/actor.ts';
import { noBytes, utf8 } from '../../runtime/bytes.ts';
import { ReplicasUnderTest } from './replicas-under-test.ts';

const names = ['a', 'b', 'c'];
const batches = 40;
const looksOfEach = 15;

/** Values of the keys that begin with `tag`, as one node shows them at one moment. */
async function shown(replicas: ReplicasUnderTest, node: string, tag: string): Promise<string[]> {
  const from = storageKey(0, utf8.encode(tag));
  const body = { from, to: storageKey(1, noBytes), limit: 100, bytes: 100_000 };
  const answer = await replicas.cluster.ask(refTo(Replica, node), 'range', body, 5_000);
  if (answer.kind !== 'reply') throw new Error(JSON.stringify(answer));
  return answer.reply.records
    .filter((record) => utf8.decode(userKey(recordKey(record))).startsWith(tag))
    .map((record) => utf8.decode(recordValue(record)));
}

async function write(replicas: ReplicasUnderTest, keys: readonly string[], value: string) {
  const operations = keys.map((key) => ({
    key: utf8.encode(key),
    value: utf8.encode(value),
    valueType: 0,
    ttlMs: 0,
  }));
  const body = { namespace: 0, operations, afterHlc: 0, level: 'ALL' };
  const answer = await replicas.cluster.ask(refTo(BatchWriter, 'n1'), 'run', body, 5_000);
  if (answer.kind !== 'reply') throw new Error(JSON.stringify(answer));
}

/** How many different values one node showed at once, at most, while batches were written. */
async function mostAtOnce(replicas: ReplicasUnderTest, keys: readonly string[], tag: string) {
  let most = 0;
  for (let i = 0; i < batches; i += 1) {
    const written = write(replicas, keys, `value-${i}`);
    for (let look = 0; look < looksOfEach; look += 1) {
      const values = await shown(replicas, 'n2', tag);
      most = Math.max(most, new Set(values).size);
      await replicas.sleep(0.0005);
    }
    await written;
  }
  return most;
}

describe('sim batches', () => {
  it(`batches: of one hash tag a replica shows all or nothing (batches=${batches})`, async () => {
    const replicas = new ReplicasUnderTest();
    await replicas.run(async () => {
      const tagged = names.map((name) => `{tag}${name}`);
      expect(await mostAtOnce(replicas, tagged, '{tag}')).to.equal(1);
      // The same looks do find parts of a batch whose keys go each its own way.
      const apart = names.map((name) => `apart-${name}`);
      expect(await mostAtOnce(replicas, apart, 'apart-')).to.be.above(1);
    });
  });
});
