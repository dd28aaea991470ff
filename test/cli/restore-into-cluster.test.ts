// kvctl restore --into-cluster from backups of a real node into another one, all in this process:
// which keys arrive, which backup is taken, and what is said of what cannot be written.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { createCluster, type EmbeddedCluster } from '../../cli/embedded/cluster.ts';
import { kvctl, type KvctlRun } from '../kit-kvctl.ts';
import { RawConnection } from '../kit-resp.ts';

describe('kvctl restore into a cluster', function () {
  this.timeout(60_000);
  let scratch = '';
  let source: EmbeddedCluster;
  let target: EmbeddedCluster;
  before(async () => {
    scratch = mkdtempSync(join(tmpdir(), 'kvd-restore-'));
    source = await createCluster({ nodes: 1 });
    target = await createCluster({ nodes: 1 });
  });
  after(async () => {
    await source.stop();
    await target.stop();
    rmSync(scratch, { recursive: true });
  });

  const on = ({ endpoints }: EmbeddedCluster, ...args: readonly string[]): Promise<KvctlRun> =>
    kvctl([...args, '--endpoint', endpoints[0] ?? '']);
  const restore = (place: string, ...more: readonly string[]): Promise<KvctlRun> =>
    on(target, 'restore', place, '--into-cluster', '-q', ...more);
  const keysOf = async (cluster: EmbeddedCluster): Promise<readonly string[]> =>
    (await on(cluster, 'list')).text.split('\n').filter((key) => key !== '');

  /** Written over the Redis protocol, whose keys are any bytes. */
  async function set(key: Uint8Array | string, value: string): Promise<void> {
    const redis = new RawConnection(Number(new URL(source.nodes[0]?.redisUrl ?? '').port));
    expect(await redis.ask('+OK\r\n', 'SET', key, value)).to.equal('+OK\r\n');
    redis.close();
  }

  it('restore: keys that are no UTF-8 are named, counted as failed, and never changed', async () => {
    await set('plain', '1');
    await set('\ufeffé', '2');
    await set(Uint8Array.of(0x61, 0xff), '3');
    await set(Uint8Array.of(0x61, 0xfe), '4');
    const place = join(scratch, 'bytes');
    expect(await on(source, 'backup', place, '-q')).to.include({ code: 0 });
    const { code, text, stderr } = await restore(place, '-o', 'json');
    expect(stderr).to.equal(
      [
        'kvctl: {"base64":"Yf4="}: not written: REST takes keys of UTF-8 alone\n',
        'kvctl: {"base64":"Yf8="}: not written: REST takes keys of UTF-8 alone\n',
        'kvctl: 2 records were not stored\n',
      ].join(''),
    );
    expect(code).to.equal(1);
    expect(JSON.parse(text)).to.include({ records: 2, failed: 2, unknown: 0 });
    expect(await keysOf(target)).to.deep.equal(['plain', '\ufeffé']);
    expect((await on(target, 'get', '\ufeffé')).text).to.equal('2');
  });
});
