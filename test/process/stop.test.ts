// A real node that is asked to stop: what it has begun is finished, on however few threads it runs.

import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { connect } from '../../cli/client/kvd-client.ts';
import { freeBasePort } from './dev-cluster.ts';
import { kvdPath } from './run-program.ts';

describe('stop', function () {
  this.timeout(60_000);
  const dir = mkdtempSync(join(tmpdir(), 'kvd-stop-'));
  after(() => rmSync(dir, { recursive: true, force: true }));

  for (const profile of ['single', 'small'] as const)
    it(`stop: SIGTERM writes what is in memory to tables (profile=${profile})`, async () => {
      const http = await freeBasePort(1);
      const peer = http + 1;
      const dataDir = join(dir, profile);
      const child = spawn(process.execPath, [
        ...[kvdPath, '--node-id', 'n1', '--seeds', `n1@127.0.0.1:${peer}`, '--profile', profile],
        ...['--shards', '1', '--http-port', String(http), '--resp-port', 'off'],
        ...['--internode-port', String(peer), '--data-dir', dataDir],
        ...['--set', 'replicationFactor=1'],
      ]);
      let said = '';
      const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
      await new Promise<void>((resolve, reject) => {
        child.stdout.on('data', (chunk: Buffer) => {
          said += chunk.toString();
          if (said.includes('node.ready')) resolve();
        });
        child.once('exit', () => reject(new Error(said)));
      });
      const client = await connect([`http://127.0.0.1:${http}`], { hedgeAfterMs: 'off' });
      await client.put('key', 'value');
      client.close();
      expect(readdirSync(join(dataDir, 'shard-0', 'tables'))).to.deep.equal([]);
      child.kill('SIGTERM');
      expect(await ended).to.equal(0);
      expect(readdirSync(join(dataDir, 'shard-0', 'tables')).length).to.equal(1);
    });
});
