// kvctl restore --into-cluster from backups of a real node into another one, all in this process:
// which keys arrive, and which backup is taken.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { createCluster, type EmbeddedCluster } from '../../cli/embedded/cluster.ts';
import { kvctl, type KvctlRun } from '../kit-kvctl.ts';
import { type Argument, RawConnection } from '../kit-resp.ts';

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

  /** A command over the Redis protocol, whose keys are any bytes. */
  async function redis(expected: string, ...words: readonly Argument[]): Promise<void> {
    const connection = new RawConnection(Number(new URL(source.nodes[0]?.redisUrl ?? '').port));
    expect(await connection.ask(`${expected}\r\n`, ...words)).to.equal(`${expected}\r\n`);
    connection.close();
  }

  it('restore: keys that are no UTF-8 arrive as they were', async () => {
    const others = [Uint8Array.of(0x61, 0xff), Uint8Array.of(0x61, 0xfe)];
    for (const key of ['plain', '\ufeffé', ...others]) await redis('+OK', 'SET', key, '2');
    const place = join(scratch, 'bytes');
    expect(await on(source, 'backup', place, '-q')).to.include({ code: 0 });
    const { code, text, stderr } = await restore(place, '-o', 'json');
    expect([code, stderr]).to.deep.equal([0, '']);
    expect(JSON.parse(text)).to.include({ records: 4, failed: 0, unknown: 0 });
    const shown = ['{"base64":"Yf4="}', '{"base64":"Yf8="}'];
    expect(await keysOf(target)).to.deep.equal([...shown, 'plain', '\ufeffé']);
    expect((await on(target, 'get', '\ufeffé')).text).to.equal('2');
    await redis(':2', 'DEL', ...others);
  });

  it('restore: --ns takes the keys of that namespace and writes them into the one of its name', async () => {
    const [from, into] = [source.client, target.client];
    await from.namespaces.create('gone');
    await from.inNamespace('gone').put('dropped', 1);
    await from.namespaces.drop('gone');
    // Its number is another one in the other cluster.
    await from.namespaces.create('orders');
    await from.namespaces.create('carts', { conflicts: 'siblings' });
    await into.namespaces.create('orders');
    await from.put('plain of default', 1);
    await from.inNamespace('orders').putMany([
      { key: 'one', value: 1 },
      { key: 'two', value: 2, ttlSeconds: 1000 },
    ]);
    const place = join(scratch, 'names');
    expect(await on(source, 'backup', place, '-q')).to.include({ code: 0 });
    const { code, text } = await restore(place, '--ns', 'orders', '-o', 'json');
    expect(code).to.equal(0);
    expect(JSON.parse(text)).to.include({ records: 2, failed: 0 });
    expect((await on(target, 'list', '--ns', 'orders')).text).to.equal('one\ntwo\n');
    expect(await keysOf(target)).to.not.include('plain of default');
    const unknown = await restore(place, '--ns', 'gone');
    expect(unknown).to.include({
      code: 4,
      stderr: 'kvctl: --ns gone: the backup has default, orders, carts\n',
    });
    const siblings = await restore(place, '--ns', 'carts');
    expect([siblings.code, siblings.stderr]).to.match(/^2,kvctl: --ns carts keeps siblings/);
    await into.namespaces.drop('orders');
    const nowhere = await restore(place, '--ns', 'orders');
    expect([nowhere.code, nowhere.stderr]).to.match(/^1,kvctl: one: NO_SUCH_NAMESPACE: /);
    await from.delete('plain of default');
    for (const name of ['orders', 'carts']) await from.namespaces.drop(name);
  });

  it('restore: --until chooses the newest backup without a later write', async () => {
    const place = join(scratch, 'times');
    const valueAfter = async (...more: readonly string[]): Promise<string> => {
      expect(await restore(place, ...more)).to.include({ code: 0, stderr: '' });
      return (await on(target, 'get', 'time')).text;
    };
    const ends: string[] = [];
    for (const value of [1, 2]) {
      const { timestamp } = await source.client.put('time', value);
      // A write's stamp has microseconds: the millisecond after it is not before it.
      ends.push(new Date(timestamp + 1).toISOString());
      await on(source, 'backup', place, '-q');
    }
    const [first = '', second = ''] = ends;
    const listed = JSON.parse((await kvctl(['restore', place, '--list', '-o', 'json'])).text) as {
      readonly id: string;
    }[];
    expect(await valueAfter()).to.equal('2\n');
    expect(await valueAfter('--until', first)).to.equal('1\n');
    expect(await valueAfter('--until', second)).to.equal('2\n');
    expect(await valueAfter('--until', 'latest')).to.equal('2\n');
    const newest = ['--backup', listed[1]?.id ?? ''];
    const refused = await restore(place, ...newest, '--until', first);
    expect([refused.code, refused.stderr]).to.match(
      /^2,kvctl: backup .*, --until is before that\n$/,
    );
    const early = await restore(place, '--until', '2001-01-01T00:00:00Z');
    expect([early.code, early.stderr.includes('the oldest backup holds')]).to.deep.equal([4, true]);
    expect(await restore(place, '--until', 'noon')).to.include({ code: 2 });
  });
});
