// What tools and operators ask of the Redis face, through a socket: CLUSTER as one node with every
// slot, what was slow, a key by chance, how a key is read, and the level SESSION of a connection.

import { expect } from 'chai';
import { utf8 } from '../../runtime/bytes.ts';
import { slotOf } from '../../actors/gateway/resp-cluster.ts';
import type { RespCall } from '../../actors/gateway/resp-call.ts';
import { commandNamed } from '../../actors/gateway/resp-commands.ts';
import { SlowCommands, slowEntriesMax } from '../../actors/gateway/resp-slow.ts';
import { encodeRecord, storageKey } from '../../actors/model/record.ts';
import { hashKey } from '../../actors/model/token.ts';
import { startCluster, type TestCluster } from '../kit-gateway.ts';
import { type Argument, command, exchange, RawConnection } from '../kit-resp.ts';

const bulk = (text: string): string => `$${Buffer.byteLength(text)}\r\n${text}\r\n`;
const array = (...items: readonly string[]): string => `*${items.length}\r\n${items.join('')}`;
const nil = '$-1\r\n';
const ok = '+OK\r\n';

describe('resp tools', () => {
  let cluster: TestCluster;
  const run = (...commands: readonly (readonly Argument[])[]): Promise<string> =>
    exchange(cluster.respPort, Buffer.concat(commands.map((args) => command(...args))));

  beforeEach(async () => {
    cluster = await startCluster({ limits: { valueBytes: 2000, ttlSecondsMax: 1_000_000 } });
  });
  afterEach(async () => {
    await cluster.close();
  });

  // Slots as redis-server 7 gives them.
  for (const [key, slot] of [
    ['foo', 12182],
    ['bar', 5061],
    ['123456789', 12739],
    ['{user1000}.following', 3443],
    ['foo{}{bar}', 8363],
    ['foo{{bar}}zap', 4015],
    ['foo{bar}{zap}', 5061],
    ['', 0],
  ] as const)
    it(`resp tools: KEYSLOT of '${key}' is ${slot}`, async () => {
      expect(slotOf(utf8.encode(key))).to.equal(slot);
      expect(await run(['CLUSTER', 'KEYSLOT', key])).to.equal(`:${slot}\r\n`);
    });

  it('resp tools: CLUSTER shows this node with every slot, at the address that the client reached', async () => {
    const [, id = ''] = /^\$40\r\n([0-9a-f]{40})\r\n$/.exec(await run(['CLUSTER', 'MYID'])) ?? [];
    expect(id).not.to.equal('');
    const port = cluster.respPort;
    expect(await run(['CLUSTER', 'NODES'])).to.include(
      `${id} 127.0.0.1:${port}@0 myself,master - 0 0 1 connected 0-16383\n`,
    );
    expect(await run(['CLUSTER', 'SLOTS'])).to.equal(
      array(
        array(':0\r\n', ':16383\r\n', array(bulk('127.0.0.1'), `:${port}\r\n`, bulk(id), array())),
      ),
    );
    const shards = await run(['CLUSTER', 'SHARDS']);
    expect(shards).to.include(`${bulk('slots')}${array(':0\r\n', ':16383\r\n')}`);
    expect(shards)
      .to.include(`${bulk('id')}${bulk(id)}`)
      .and.to.include(bulk('online'));
    const info = await run(['CLUSTER', 'INFO']);
    expect(info).to.include('cluster_enabled:0\r\n').and.to.include('cluster_state:ok\r\n');
    expect(await run(['CLUSTER', 'HELP'])).to.include('KEYSLOT');
  });

  it('resp tools: CLIENT, CONFIG and COMMAND say what they know', async () => {
    for (const [name, form] of [
      ['CLIENT', 'CLIENT REPLY ON | OFF | SKIP'],
      ['CONFIG', 'CONFIG GET pattern'],
      ['COMMAND', 'COMMAND GETKEYS command'],
    ] as const)
      expect(await run([name, 'help']))
        .to.match(/^\*/)
        .and.to.include(form);
  });

  // Which commands are kept is a matter of real time: the tests of SlowCommands below say it.
  it('resp tools: SLOWLOG and LATENCY answer, and say how they are set', async () => {
    expect(await run(['SET', 'k', 'v'], ['SLOWLOG', 'RESET'])).to.equal(`${ok}${ok}`);
    expect(
      await run(['LATENCY', 'HISTORY', 'fork'], ['CONFIG', 'GET', 'slowlog-max-len']),
    ).to.equal(`${array()}${array(bulk('slowlog-max-len'), bulk('128'))}`);
    expect(await run(['LATENCY', 'RESET'])).to.match(/^:\d+\r\n$/);
    expect(await run(['LATENCY', 'LATEST'])).to.match(/^\*\d+\r\n/);
    expect(await run(['LATENCY', 'HISTORY', 'command'])).to.match(/^\*\d+\r\n/);
    expect(await run(['SLOWLOG', 'GET'])).to.match(/^\*\d+\r\n/);
    expect(await run(['SLOWLOG', 'LEN'])).to.match(/^:\d+\r\n$/);
    expect(await run(['LATENCY', 'DOCTOR'])).to.include('100 ms');
    expect(await run(['SLOWLOG', 'HELP'], ['LATENCY', 'HELP'])).to.include('LATENCY DOCTOR');
  });

  const callOf = (...words: readonly string[]): RespCall =>
    ({
      args: words.map((word) => utf8.encode(word)),
      spec: commandNamed((words[0] ?? '').toLowerCase()),
      connection: { remote: '10.0.0.1:5', name: 'me' },
    }) as unknown as RespCall;

  it('slow commands: only what took 10 ms is kept, the newest first, and no more than 128', () => {
    const slow = new SlowCommands();
    slow.ended(callOf('GET', 'quick'), 9.99, 0);
    for (let i = 0; i < slowEntriesMax + 5; i += 1)
      slow.ended(callOf('GET', String(i)), 10, i * 1e6);
    expect(slow.entries.length).to.equal(slowEntriesMax);
    const [newest] = slow.entries;
    expect(newest).to.deep.include({ id: 132, seconds: 132, micros: 10_000, name: 'me' });
    expect(slow.entries.at(-1)?.id).to.equal(5);
    expect(slow.spikes).to.deep.equal([]);
  });

  it('slow commands: long arguments are cut, those of AUTH are not kept', () => {
    const slow = new SlowCommands();
    slow.ended(callOf('MGET', ...Array.from({ length: 40 }, () => 'x')), 50, 0);
    slow.ended(callOf('SET', 'k', 'v'.repeat(200)), 50, 0);
    slow.ended(callOf('AUTH', 'secret'), 50, 0);
    const [auth, set, mget] = slow.entries;
    expect(auth?.args).to.deep.equal(['auth', '(redacted)']);
    expect(set?.args[2]).to.equal(`${'v'.repeat(128)}... (72 more bytes)`);
    expect(mget?.args.length).to.equal(32);
    expect(mget?.args[31]).to.equal('... (10 more arguments)');
  });

  it('slow commands: of each second the longest of 100 ms and more is a spike', () => {
    const slow = new SlowCommands();
    for (const [ms, seconds] of [
      [99, 1],
      [100, 2],
      [300, 2],
      [150, 2],
      [120, 3],
    ] as const)
      slow.ended(callOf('GET', 'k'), ms, seconds * 1e6);
    expect(slow.spikes).to.deep.equal([
      { seconds: 2, ms: 300 },
      { seconds: 3, ms: 120 },
    ]);
    expect(slow.longestMs).to.equal(300);
    expect([slow.forgetSpikes(), slow.forgetSpikes()]).to.deep.equal([1, 0]);
  });

  it('resp tools: RANDOMKEY is nil where there is nothing, and finds every key in time', async () => {
    expect(await run(['RANDOMKEY'])).to.equal(nil);
    const keys = ['a', 'b', 'c', 'd', 'e'];
    await run(['MSET', ...keys.flatMap((key) => [key, 'v'])]);
    const found = new Map<string, number>();
    const said = await run(...Array.from({ length: 300 }, () => ['RANDOMKEY']));
    for (const [, key = ''] of said.matchAll(/\$1\r\n(.)\r\n/g))
      found.set(key, (found.get(key) ?? 0) + 1);
    expect([...found.keys()].sort()).to.deep.equal(keys);
    // 60 of each is even; chance alone stays far inside of this.
    for (const count of found.values()) expect(count).to.be.within(20, 120);
  });

  it('resp tools: KV.EXPLAIN asks for an explanation at the level of the connection', async () => {
    const said = await run(['KV.CONSISTENCY', 'ALL'], ['KV.EXPLAIN', 'k'], ['KV.EXPLAIN']);
    const { request } = cluster.backend.seen.at(-1) ?? {};
    expect(request).to.deep.include({ level: 'ALL', explain: true });
    expect(said).to.include("-ERR wrong number of arguments for 'kv.explain' command");
    expect(await run(['KV.CONSISTENCY', 'SERIAL'], ['KV.EXPLAIN', 'k'])).to.equal(
      `${ok}${bulk('{"level":"SERIAL"}')}`,
    );
  });

  // ---- SESSION -----------------------------------------------------------------------------

  const levels = (): string[] =>
    cluster.backend.seen.map(({ verb, request }) => `${verb} ${request.level}`);

  /** The key as a replica has it that has missed everything since. */
  function fallBehind(key: string): void {
    const storage = storageKey(0, utf8.encode(key));
    const body = { key: storage, value: utf8.encode('old'), valueType: 0, isTombstone: false };
    const stamp = { hlc: 1, writer: 7, incarnation: 2, version: 1, expiresAt: 0 };
    cluster.backend.records.set(key, encodeRecord({ ...body, ...stamp, ...hashKey(storage) }));
  }

  it('resp tools: a session reads at one replica, and is shown nothing older than it wrote', async () => {
    const connection = new RawConnection(cluster.respPort);
    await connection.ask(ok, 'KV.CONSISTENCY', 'SESSION');
    await connection.ask(ok, 'SET', 'k', 'v');
    expect(await connection.ask(bulk('v'), 'GET', 'k')).to.equal(bulk('v'));
    expect(levels()).to.deep.equal(['write QUORUM', 'read ONE']);
    fallBehind('k');
    const refused = '-CLUSTERDOWN SESSION_UNSATISFIED';
    cluster.backend.seen.length = 0;
    connection.send(command('GET', 'k'));
    const said = await connection.take(refused.length);
    expect(said).to.include('SESSION_UNSATISFIED');
    // There is one copy here, so no wider level to try.
    expect(levels()).to.deep.equal(['read ONE']);
    connection.close();
  });

  it('resp tools: a session knows what its counters and transactions left, another connection does not', async () => {
    for (const change of [
      [['INCR', 'k']],
      [['MULTI'], ['SET', 'k', 'v'], ['EXEC']],
      [['MGET', 'k']],
    ]) {
      await run(['SET', 'k', '1']);
      const connection = new RawConnection(cluster.respPort);
      await connection.ask(ok, 'KV.CONSISTENCY', 'SESSION');
      for (const each of change) connection.send(command(...each));
      connection.send(command('ECHO', 'end'));
      let said = '';
      while (!said.endsWith(bulk('end'))) said += await connection.take(1);
      fallBehind('k');
      connection.send(command('GET', 'k'));
      expect(await connection.take(60), String(change)).to.include('SESSION_UNSATISFIED');
      connection.close();
      expect(await run(['KV.CONSISTENCY', 'SESSION'], ['GET', 'k'])).to.equal(
        `${ok}${bulk('old')}`,
      );
    }
  });

  it('resp tools: KV.CONSISTENCY shows a session, and another level, RESET and SELECT end it', async () => {
    const shown = (read: string): string =>
      array(bulk('read'), bulk(read), bulk('write'), bulk('QUORUM'));
    expect(
      await run(
        ['KV.CONSISTENCY', 'SESSION'],
        ['KV.CONSISTENCY'],
        ['KV.CONSISTENCY', 'QUORUM'],
        ['KV.CONSISTENCY'],
        ['KV.CONSISTENCY', 'SESSION'],
        ['SELECT', '0'],
        ['KV.CONSISTENCY'],
        ['KV.CONSISTENCY', 'SESSION'],
        ['RESET'],
        ['KV.CONSISTENCY'],
      ),
    ).to.equal(
      `${ok}${shown('SESSION')}${ok}${shown('QUORUM')}${ok}${ok}${shown('QUORUM')}${ok}+RESET\r\n${shown('QUORUM')}`,
    );
  });
});
