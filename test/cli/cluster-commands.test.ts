// Commands of kvctl that look at a cluster or stream from it, against a real one in this process.

import { expect } from 'chai';
import { storageKey } from '../../actors/model/record.ts';
import { hashKey } from '../../actors/model/token.ts';
import { parseTopology, type Topology } from '../../cli/client/topology.ts';
import { createCluster, type EmbeddedCluster } from '../../cli/embedded/cluster.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { kvctl, type KvctlRun } from '../kit-kvctl.ts';
import { command, RawConnection } from '../kit-resp.ts';

describe('kvctl and a cluster', function () {
  this.timeout(60_000);
  let cluster: EmbeddedCluster;
  const run = (args: readonly string[], stdin: Uint8Array | string = ''): Promise<KvctlRun> =>
    kvctl([...args, '--endpoint', cluster.endpoints[0] ?? ''], stdin);
  before(async () => {
    cluster = await createCluster();
  });
  after(() => cluster.stop());

  it('kvctl: batch puts, gets and deletes lines of a pipe, and numbers stay as they are written', async () => {
    const lines = [
      '{"key":"b1","value":12345678901234567890}',
      '',
      '{"value":2,"key":"b2","ttl":60}',
    ];
    const put = await run(['batch', 'put', '-', '--batch', '1'], lines.join('\n'));
    expect([put.code, put.text, put.stderr]).to.deep.equal([0, 'OK 2\n', '']);
    const got = await run(['batch', 'get', '-'], 'b2\nnone\nb2\n');
    const rows = got.text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as object);
    expect(rows.length).to.equal(3);
    expect(rows[0]).to.include({ key: 'b2', found: true, value: 2 });
    expect(rows[1]).to.include({ key: 'none', found: false });
    expect((await run(['get', 'b1'])).text).to.equal('12345678901234567890\n');
    const removed = await run(['batch', 'delete', '-'], 'b1\nb2\n');
    expect([removed.code, removed.text]).to.deep.equal([0, 'OK 2\n']);
    expect((await run(['exists', 'b1'])).code).to.equal(4);
  });

  it('kvctl: batch names what failed and ends with 1; a line that is no operation is usage', async () => {
    await run(['put', 'there', '1']);
    const lines = '{"key":"there","value":1,"if_not_exists":true}\n{"key":"new","value":1}\n';
    const put = await run(['batch', 'put', '-'], lines);
    expect([put.code, put.text]).to.deep.equal([1, 'OK 1\n']);
    expect(put.stderr).to.match(/^kvctl: "there": CONFLICT: .*\nkvctl: 1 of 2 failed\n$/);
    for (const bad of ['nonsense', '5', '[]'])
      expect((await run(['batch', 'put', '-'], bad)).code).to.equal(2);
  });

  it('kvctl: a line of a batch that is no UTF-8 names no other key', async () => {
    await run(['put', '\ufffd', 'kept']);
    for (const verb of ['delete', 'get']) {
      const { code, stderr } = await run(['batch', verb, '-'], Buffer.from([0x80, 0x0a]));
      expect([code, stderr]).to.deep.equal([2, 'kvctl: line 1: expected UTF-8\n']);
    }
    expect((await run(['exists', '\ufffd'])).code).to.equal(0);
  });

  it('kvctl: watch prints changes of a prefix, and its ids go on elsewhere', async () => {
    const watching = run(['watch', 'w/', '--count', '3', '-o', 'jsonl']);
    // The watch begins at some moment: puts go on until it has seen enough.
    let seen: KvctlRun | undefined;
    for (let i = 0; seen === undefined; i += 1) {
      const put = cluster.client.put('w/k', i).then(() => undefined);
      seen = await Promise.race([watching, put]);
    }
    const { code, text } = seen;
    const events = text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(code).to.equal(0);
    expect(events.map(({ type }) => type)).to.deep.equal(['ready', 'put', 'put', 'put']);
    await cluster.client.delete('w/k');
    const after = String(events[1]?.['id']);
    let more = await run(['watch', 'w/', '--after', after, '--count', '1', '-q']);
    expect(more.text).to.match(/^put w\/k \d+\n$/);
    more = await run(['watch', 'w/', '--after', 'bad', '--count', '1']);
    expect(more.code).to.equal(1);
    expect(more.stderr).to.include('BAD_REQUEST');
  });

  it('kvctl: explain shows owners in the order of the ring and the etag that each one holds', async () => {
    const { etag } = await cluster.client.put('e', 1, { level: 'ALL' });
    const shown = await run(['explain', 'e', '-o', 'json']);
    const { replicas, ...rest } = JSON.parse(shown.text) as {
      readonly replicas: readonly { readonly node: string; readonly etag: string }[];
    };
    expect(rest).to.deep.include({ key: 'e', version: 1, level: 'ALL' });
    expect(replicas.map((replica) => replica.etag)).to.deep.equal([etag, etag, etag]);
    expect(replicas.map(({ node }) => node).sort()).to.deep.equal(['n1', 'n2', 'n3']);
    expect((await run(['explain', 'e'])).text).to.match(/version 1, read at ALL through n\d\n$/);
    const none = JSON.parse((await run(['explain', 'none', '-o', 'json'])).text) as typeof rest & {
      readonly replicas: readonly { readonly etag: string }[];
    };
    expect(none).to.deep.include({ version: null });
    expect(none.replicas.map((replica) => replica.etag)).to.deep.equal(Array(3).fill('nothing'));
  });

  it('kvctl: explain and ttl of a key with several values', async () => {
    await cluster.client.namespaces.create('carts', { conflicts: 'siblings' });
    for (const value of ['1', '2', '3']) await run(['--ns', 'carts', 'put', 'c', value]);
    const shown = await run(['--ns', 'carts', 'explain', 'c']);
    expect([shown.code, shown.stderr]).to.deep.equal([0, '']);
    expect(shown.text).to.match(/version 3, 3 values, read at ALL through n\d\n$/);
    expect((await run(['ns', 'list'])).text).to.match(/│ carts .*│ siblings +│/);
    expect((await run(['ns', 'get', 'carts'])).text).to.match(/│ carts .*│ siblings +│/);
    expect((await run(['ns', 'create', '--help'])).text).to.match(/--conflicts .* or\s+siblings/);
    const json = await run(['--ns', 'carts', 'explain', 'c', '-o', 'json']);
    expect(JSON.parse(json.text)).to.include({ version: 3, values: 3 });
    expect(await run(['--ns', 'carts', 'exists', 'c'])).to.include({ code: 0, text: 'true\n' });
  });

  it('kvctl: explain refuses a level, which it chooses itself', async () => {
    const { code, stderr } = await run(['explain', 'e', '--consistency', 'ONE']);
    expect([code, stderr]).to.deep.equal([
      2,
      'kvctl: --consistency: explain reads at the highest level that is answered\n',
    ]);
  });

  it('kvctl: explain in a namespace shows the owners that the key has there (keys=8)', async () => {
    const { id } = await cluster.client.namespaces.create('shop');
    const ring = await run(['ring', '-o', 'json']);
    const topology = parseTopology(Buffer.from(ring.text)) as Topology;
    for (let i = 0; i < 8; i += 1) {
      const key = `e${i}`;
      const shown = await run(['--ns', 'shop', 'explain', key, '-o', 'json']);
      const { replicas } = JSON.parse(shown.text) as {
        readonly replicas: readonly { readonly node: string }[];
      };
      const { token } = hashKey(storageKey(id, utf8.encode(key)));
      expect(replicas.map(({ node }) => node)).to.deep.equal(topology.ring.replicasOf(token));
    }
    const none = await run(['--ns', 'none', 'explain', 'e']);
    expect([none.code, none.stderr.includes('NO_SUCH_NAMESPACE')]).to.deep.equal([4, true]);
    const usual = await run(['--ns', 'default', 'explain', 'e', '-o', 'raw']);
    expect(usual.text.split('\n').map((line) => line.slice(0, 2))).to.deep.equal(
      (await run(['explain', 'e', '-o', 'raw'])).text.split('\n').map((line) => line.slice(0, 2)),
    );
  });

  it('kvctl: ttl shows and sets what is left', async () => {
    await run(['put', 't', '1']);
    expect((await run(['ttl', 't'])).text).to.equal('never\n');
    expect((await run(['ttl', 't', '100'])).text).to.equal('100\n');
    expect((await run(['ttl', 't', '-o', 'json'])).text).to.match(/"ttl_remaining": (99|100)\n/);
    expect((await run(['ttl', 't', '0'])).text).to.equal('never\n');
    const none = await run(['ttl', 'none']);
    expect([none.code, none.stderr]).to.deep.equal([4, 'kvctl: NOT_FOUND: there is no such key\n']);
    expect((await run(['ttl', 'none', '--ns', 'none'])).stderr).to.contain('NO_SUCH_NAMESPACE');
    expect((await run(['ttl', 'none', '5'])).code).to.equal(4);
    expect((await run(['ttl', 't', 'soon'])).code).to.equal(2);
  });

  it('kvctl: top and nodes show every node; rates come with the second look', async () => {
    const top = await run(['top', '--count', '2', '--interval', '100', '-o', 'json']);
    const looks = top.text
      .trim()
      .split(/(?<=\])\n/)
      .map((text) => JSON.parse(text) as Record<string, unknown>[]);
    expect(looks.map((rows) => rows.map(({ node }) => node))).to.deep.equal([
      ['n1', 'n2', 'n3'],
      ['n1', 'n2', 'n3'],
    ]);
    expect(looks[0]?.map((row) => row['requests/s'])).to.deep.equal([null, null, null]);
    expect(looks[1]?.every((row) => typeof row['requests/s'] === 'number')).to.equal(true);
    expect((await run(['top'])).text).to.include('requests/s');
    expect((await run(['nodes'])).text).to.include('n3');
  });

  it('kvctl: top counts commands of the Redis protocol as requests', async () => {
    const redis = new RawConnection(Number(new URL(cluster.nodes[0]?.redisUrl ?? '').port));
    const commands = Buffer.concat(Array.from({ length: 1000 }, () => command('PING')));
    const watched = run(['top', '--count', '2', '--interval', '300', '-o', 'json']);
    // Commands are taken all the time, so also between the two looks.
    let top: KvctlRun | undefined;
    while (top === undefined) {
      redis.send(commands);
      const answered = redis.take(1000 * '+PONG\r\n'.length).then(() => undefined);
      top = await Promise.race([watched, answered]);
    }
    redis.close();
    const [, second = '[]'] = top.text.trim().split(/(?<=\])\n/);
    const rates = (JSON.parse(second) as Record<string, unknown>[]).map((row) =>
      Number(row['requests/s']),
    );
    expect(rates[0]).to.be.above(500);
    expect(rates[1]).to.be.below(500);
  });

  it('kvctl: sim runs a seed in a process of its own; a bad replay ends with a code', async () => {
    const one = await run(['sim', 'run', '--seed', '1', '--seconds', '20']);
    expect(one.text).to.match(/1 passed, 0 failed\n$/);
    expect(one.code).to.equal(0);
    expect((await run(['sim', 'run', '--jobs', '0'])).code).to.equal(2);
    expect((await run(['sim', 'replay', 'nonsense'])).code).to.equal(2);
  });
});
