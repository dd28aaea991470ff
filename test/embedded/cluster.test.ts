// A cluster inside the test process: three lines to have it, faults by call, files that stay.

import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { createCluster } from '../../cli/embedded/cluster.ts';
import { KvError } from '../../runtime/errors.ts';

describe('embedded cluster', function () {
  this.timeout(60_000);

  it('embedded cluster: three nodes store, one is killed and comes back, all is there', async () => {
    const cluster = await createCluster();
    try {
      const { client, nodes } = cluster;
      for (let i = 0; i < 20; i += 1) await client.put(`key-${i}`, { i });
      await nodes[1]?.kill();
      expect(nodes.map(({ isRunning }) => isRunning)).to.deep.equal([true, false, true]);
      for (let i = 0; i < 20; i += 1)
        expect((await client.get(`key-${i}`))?.value).to.deep.equal({ i });
      await nodes[1]?.start();
      await cluster.settled();
      expect((await client.put('after', 1, { level: 'ALL' })).version).to.equal(1);
    } finally {
      await cluster.stop();
    }
    expect(existsSync(cluster.nodes[0]?.directory ?? '')).to.equal(false);
  });

  it('embedded cluster: a directory of the caller keeps what was stored, also through a kill', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'kvd-embedded-'));
    try {
      const first = await createCluster({ nodes: 1, directory });
      await first.client.put('kept', 'value');
      await first.nodes[0]?.kill();
      await first.stop();
      const second = await createCluster({ nodes: 1, directory });
      expect((await second.client.get('kept'))?.value).to.equal('value');
      await second.stop();
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });

  it('embedded cluster: bad options are refused by name, and a node that cannot start says why', async () => {
    const refusal = async (options: object): Promise<string> => {
      try {
        await (await createCluster(options)).stop();
      } catch (error) {
        if (error instanceof KvError) return String(error.fields['detail']);
        throw error;
      }
      return 'accepted';
    };
    expect(await refusal({ nodes: 0 })).to.contain('expected 1 to 9');
    expect(await refusal({ settings: { nonsense: 1 } })).to.contain('nonsense');
    expect(await refusal({ nodes: 1, directory: fileURLToPath(import.meta.url) })).to.contain(
      'n1: ',
    );
  });
});
