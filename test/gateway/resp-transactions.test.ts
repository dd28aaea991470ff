// MULTI, EXEC and their kin through a socket, byte by byte: what is queued, what is refused when, what
// WATCH notices, and how a connection comes out of it. And the commands on several keys that are
// transactions of their own. Answers are those of Redis 7, where kvd does the same.

import { expect } from 'chai';
import { utf8 } from '../../runtime/bytes.ts';
import { failure } from '../../runtime/errors.ts';
import { recordExpiresAt, recordValue } from '../../actors/model/record.ts';
import { nowMs, startCluster, type TestCluster } from '../kit-gateway.ts';
import { type Argument, command, exchange, RawConnection } from '../kit-resp.ts';

const bulk = (text: string): string => `$${Buffer.byteLength(text)}\r\n${text}\r\n`;
const array = (...items: readonly string[]): string => `*${items.length}\r\n${items.join('')}`;
const error = (text: string): string => `-${text}\r\n`;
const nil = '$-1\r\n';
const nilArray = '*-1\r\n';
const ok = '+OK\r\n';
const queued = '+QUEUED\r\n';
const aborted = error('EXECABORT Transaction discarded because of previous errors.');
const crossSlot =
  "-CROSSSLOT Keys in request don't hash to the same slot: a transaction takes keys of one hash tag, such as {user1}:a and {user1}:b\r\n";

describe('resp transactions', () => {
  let cluster: TestCluster;
  const run = (...commands: readonly (readonly Argument[])[]): Promise<string> =>
    exchange(cluster.respPort, Buffer.concat(commands.map((args) => command(...args))));
  const stored = (key: string): Uint8Array | undefined => cluster.backend.records.get(key);
  const valueOf = (key: string): string => utf8.decode(recordValue(stored(key) as Uint8Array));

  beforeEach(async () => {
    cluster = await startCluster({ limits: { valueBytes: 2000, ttlSecondsMax: 1_000_000 } });
  });
  afterEach(async () => {
    await cluster.close();
  });

  it('resp transactions: commands wait for EXEC, and each has its answer there', async () => {
    expect(
      await run(
        ['MULTI'],
        ['SET', '{a}x', '1'],
        ['INCR', '{a}x'],
        ['GET', '{a}x'],
        ['MGET', '{a}x', '{a}y'],
        ['GET', '{a}y'],
        ['SET', '{a}y', 'v', 'EX', '50', 'NX'],
        ['TTL', '{a}y'],
        ['DEL', '{a}x', '{a}z'],
        ['EXISTS', '{a}x', '{a}y'],
        ['PING'],
        ['ECHO', 'e'],
        ['EXEC'],
        ['GET', '{a}x'],
      ),
    ).to.equal(
      ok +
        queued.repeat(11) +
        array(
          ...[
            ok,
            ':2\r\n',
            bulk('2'),
            array(bulk('2'), nil),
            nil,
            ok,
            ':50\r\n',
            ':1\r\n',
            ':1\r\n',
          ],
          ...['+PONG\r\n', bulk('e')],
        ) +
        nil,
    );
    expect(cluster.backend.seen.every(({ verb }) => verb === 'read')).to.equal(true);
  });

  it('resp transactions: nothing happens before EXEC, and DISCARD, RESET and an end drop all', async () => {
    const other = new RawConnection(cluster.respPort);
    for (const last of [['DISCARD'], ['RESET'], ['QUIT']]) {
      await run(['MULTI'], ['SET', 'k', 'v'], last);
      expect(await other.ask(nil, 'GET', 'k'), last[0]).to.equal(nil);
    }
    expect(await run(['MULTI'], ['SET', 'k', 'v'], ['DISCARD'], ['EXEC'])).to.equal(
      `${ok}${queued}${ok}${error('ERR EXEC without MULTI')}`,
    );
    expect(await run(['MULTI'], ['RESET'], ['PING'])).to.equal(`${ok}+RESET\r\n+PONG\r\n`);
    other.close();
  });

  it('resp transactions: an empty one is an empty list, one with errors in it ends nothing else', async () => {
    expect(await run(['MULTI'], ['EXEC'], ['MULTI'], ['PING'], ['EXEC'])).to.equal(
      `${ok}${array()}${ok}${queued}${array('+PONG\r\n')}`,
    );
    expect(
      await run(
        ['MULTI'],
        ['SET', 'k', 'text'],
        ['INCR', 'k'],
        ['SET', 'k', 'v', 'EX', 'soon'],
        ['APPEND', 'k', '!'],
        ['EXEC'],
      ),
    ).to.equal(
      ok +
        queued.repeat(4) +
        array(
          ok,
          error('ERR value is not an integer or out of range'),
          error('ERR value is not an integer or out of range'),
          ':5\r\n',
        ),
    );
    expect(valueOf('k')).to.equal('text!');
  });

  for (const [what, args, refusal] of [
    ['an unknown command', ['NOPE'], "ERR unknown command 'NOPE', with args beginning with: "],
    ['too few arguments', ['GET'], "ERR wrong number of arguments for 'get' command"],
    ['a page of keys', ['SCAN', '0'], 'ERR SCAN is not allowed inside a transaction'],
    ['another namespace', ['SELECT', '0'], 'ERR SELECT is not allowed inside a transaction'],
  ] as const)
    it(`resp transactions: ${what} is refused when it comes, and EXEC does nothing (EXECABORT)`, async () => {
      expect(
        await run(['MULTI'], ['SET', 'k', 'v'], args, ['SET', 'k', 'w'], ['EXEC'], ['GET', 'k']),
      ).to.equal(`${ok}${queued}${error(refusal)}${queued}${aborted}${nil}`);
    });

  it('resp transactions: keys of two hash tags are refused, also within one command', async () => {
    expect(
      await run(['MULTI'], ['SET', '{a}x', '1'], ['SET', '{b}x', '1'], ['EXEC'], ['GET', '{a}x']),
    ).to.equal(`${ok}${queued}${crossSlot}${aborted}${nil}`);
    expect(await run(['MULTI'], ['MGET', '{a}x', 'a', '{b}x'], ['EXEC'])).to.equal(
      `${ok}${crossSlot}${aborted}`,
    );
    // A key without a tag goes with those whose tag it is.
    expect(await run(['MULTI'], ['MGET', '{a}x', 'a'], ['EXEC'])).to.equal(
      `${ok}${queued}${array(array(nil, nil))}`,
    );
  });

  it('resp transactions: MULTI and WATCH inside one, EXEC and DISCARD outside are refused', async () => {
    expect(
      await run(
        ['EXEC'],
        ['DISCARD'],
        ['MULTI'],
        ['MULTI'],
        ['WATCH', 'k'],
        ['SET', 'k', 'v'],
        ['UNWATCH'],
        ['EXEC'],
        ['EXEC', 'now'],
        ['WATCH'],
      ),
    ).to.equal(
      error('ERR EXEC without MULTI') +
        error('ERR DISCARD without MULTI') +
        ok +
        error('ERR MULTI calls can not be nested') +
        error('ERR WATCH inside MULTI is not allowed') +
        queued.repeat(2) +
        array(ok, ok) +
        error("ERR wrong number of arguments for 'exec' command") +
        error("ERR wrong number of arguments for 'watch' command"),
    );
  });

  for (const [what, before, changes, answer] of [
    ['nothing', [], [], array(ok)],
    ['a plain write', [], [['SET', '{t}w', '2']], nilArray],
    ['a write of the same value', [['SET', '{t}w', '1']], [['SET', '{t}w', '1']], nilArray],
    ['a new time to live', [['SET', '{t}w', '1']], [['EXPIRE', '{t}w', '100']], nilArray],
    ['a delete', [['SET', '{t}w', '1']], [['GETDEL', '{t}w']], nilArray],
    [
      'made and deleted',
      [],
      [
        ['INCR', '{t}w'],
        ['GETDEL', '{t}w'],
      ],
      nilArray,
    ],
    ['another transaction', [], [['MULTI'], ['SET', '{t}w', '2'], ['EXEC']], nilArray],
    ['another key of the tag', [], [['SET', '{t}v', '2']], array(ok)],
    ['what changed nothing', [['SET', '{t}w', '1']], [['SETNX', '{t}w', '2']], array(ok)],
  ] as const)
    it(`resp transactions: WATCH and ${what}: EXEC answers ${answer === nilArray ? 'nil' : 'all'}`, async () => {
      for (const each of before) await run(each);
      const connection = new RawConnection(cluster.respPort);
      await connection.ask(ok, 'WATCH', '{t}w', '{t}x');
      if (changes.length > 0) await run(...changes);
      await connection.ask(ok, 'MULTI');
      await connection.ask(queued, 'SET', '{t}x', 'mine');
      expect(await connection.ask(answer, 'EXEC')).to.equal(answer);
      expect(stored('{t}x') === undefined).to.equal(answer === nilArray);
      // It watches nothing any more.
      await run(['SET', '{t}w', 'again']);
      await connection.ask(ok, 'MULTI');
      expect(await connection.ask(array(), 'EXEC')).to.equal(array());
      connection.close();
    });

  it('resp transactions: UNWATCH, DISCARD and RESET forget what was watched; version 3 has its own nil', async () => {
    for (const forget of ['UNWATCH', 'DISCARD', 'RESET'] as const) {
      const connection = new RawConnection(cluster.respPort);
      await connection.ask(ok, 'WATCH', 'w');
      await run(['INCR', 'w']);
      if (forget === 'DISCARD') await connection.ask(ok, 'MULTI');
      await connection.ask(forget === 'RESET' ? '+RESET\r\n' : ok, forget);
      await connection.ask(ok, 'MULTI');
      expect(await connection.ask(array(), 'EXEC'), forget).to.equal(array());
      connection.close();
    }
    const connection = new RawConnection(cluster.respPort);
    connection.send(command('HELLO', '3'));
    connection.send(command('WATCH', 'w'));
    connection.send(command('INCR', 'w'));
    connection.send(command('MULTI'));
    connection.send(command('EXEC'));
    connection.send(command('QUIT'));
    await connection.closed();
    expect(await connection.take(10_000)).to.match(/\+OK\r\n:\d+\r\n\+OK\r\n_\r\n\+OK\r\n$/);
  });

  it('resp transactions: watched keys have one hash tag, and what is queued has it too', async () => {
    expect(await run(['WATCH', '{a}x', '{b}x'])).to.equal(crossSlot);
    expect(await run(['WATCH', '{a}x'], ['WATCH', '{b}x'])).to.equal(`${ok}${crossSlot}`);
    expect(await run(['WATCH', '{a}x'], ['MULTI'], ['SET', '{b}x', '1'], ['EXEC'])).to.equal(
      `${ok}${ok}${crossSlot}${aborted}`,
    );
  });

  it('resp transactions: a connection that watches reads nothing below a quorum', async () => {
    const levels = (): string[] => cluster.backend.seen.map(({ request }) => request.level);
    await run(
      ['KV.CONSISTENCY', 'ONE'],
      ['GET', 'k'],
      ['WATCH', 'k'],
      ['GET', 'k'],
      ['UNWATCH'],
      ['GET', 'k'],
    );
    expect(levels()).to.deep.equal(['ONE', 'QUORUM', 'QUORUM', 'ONE']);
  });

  it('resp transactions: what is too long is refused when it comes, at the limit it is not', async () => {
    const commands = Array.from({ length: 1000 }, () => ['PING']);
    const most = await run(['MULTI'], ...commands, ['EXEC']);
    expect(most.endsWith('+PONG\r\n')).to.equal(true);
    const more = await run(['MULTI'], ...commands, ['PING'], ['EXEC']);
    expect(more.endsWith(aborted)).to.equal(true);
    expect(more).to.include('-ERR TOO_LARGE a transaction takes 1000 commands');
    const value = 'v'.repeat(2000);
    const sets = Array.from({ length: 900 }, (_, i) => ['MSET', ...same(value, i)]);
    const large = await run(['MULTI'], ...sets, ['EXEC']);
    expect(large).to.include('-ERR TOO_LARGE the commands of a transaction have at most');
    expect(large.endsWith(aborted)).to.equal(true);
    const watched = Array.from({ length: 1001 }, (_, i) => `{w}${i}`);
    expect(await run(['WATCH', ...watched.slice(1)])).to.equal(ok);
    expect(await run(['WATCH', ...watched])).to.equal(
      error('ERR TOO_LARGE a connection watches at most 1000 keys'),
    );
  });

  it('resp transactions: what costs more than its bytes is counted', async () => {
    const sets = Array.from({ length: 100 }, () => [...['MSET', ...Array<string>(1000).fill('')]]);
    const said = await run(['MULTI'], ...sets, ['EXEC']);
    expect(said).to.include('-ERR TOO_LARGE the commands of a transaction have at most');
    expect(said.endsWith(aborted)).to.equal(true);
  });

  it('resp transactions: all connections keep so much together, little is always taken, and ends give it back', async () => {
    const sets = [
      'MSET',
      ...Array<string[]>(460)
        .fill(['k', 'v'.repeat(2000)])
        .flat(),
    ];
    const connections: RawConnection[] = [];
    const fill = async (): Promise<string> => {
      const connection = new RawConnection(cluster.respPort);
      connections.push(connection);
      await connection.ask(ok, 'MULTI');
      for (let i = 0; i < 3; i += 1) await connection.ask(queued, ...sets);
      return connection.ask(queued, ...sets);
    };
    const fillAll = async (): Promise<number> => {
      while (connections.length < 30 && (await fill()) === queued);
      return connections.length;
    };
    // 3.9 of 67.1 million bytes for each.
    expect(await fillAll()).to.equal(18);
    const watched = Array.from({ length: 1000 }, (_, i) => `{w}${i}${'x'.repeat(300)}`);
    const oom = 'OOM too many bytes of queued commands and watched keys are kept on this node';
    expect(await run(['WATCH', ...watched])).to.equal(error(oom));
    expect(await run(['WATCH', 'k'], ['MULTI'], ['SET', 'k', 'v'], ['EXEC'])).to.equal(
      `${ok}${ok}${queued}${array(ok)}`,
    );
    const [first, second] = connections as [RawConnection, RawConnection];
    await first.ask(ok, 'DISCARD');
    second.send(command('QUIT'));
    await second.closed();
    expect(await run(['WATCH', ...watched], ['WATCH', ...watched], ['UNWATCH'])).to.equal(
      ok.repeat(3),
    );
    expect(await fillAll()).to.equal(21);
    for (const connection of connections) connection.close();
  });

  const same = (value: string, i: number): string[] =>
    ['a', 'b', 'c'].flatMap((name) => [`{l}${name}${i}`, value]);

  it('resp transactions: an outcome that nobody can tell is said to be one, and the transaction is over', async () => {
    const connection = new RawConnection(cluster.respPort);
    await connection.ask(ok, 'MULTI');
    await connection.ask(queued, 'SET', 'k', 'v');
    for (const node of ['n1', 'n2', 'n3'])
      cluster.backend.failing.set(node, failure('UNREACHABLE', { node }));
    const expected = '-ERR UNKNOWN_OUTCOME ';
    expect(await connection.ask(expected, 'EXEC')).to.equal(expected);
    connection.send(command('QUIT'));
    await connection.closed();
    cluster.backend.failing.clear();
    expect(await run(['MULTI'], ['SET', 'k', 'v'], ['EXEC'])).to.equal(
      `${ok}${queued}${array(ok)}`,
    );
  });

  it('resp transactions: in a pipeline those before MULTI have ended, those after EXEC see it', async () => {
    const before = Array.from({ length: 20 }, (_, i) => ['SET', '{p}k', String(i)]);
    const said = await run(
      ...before,
      ['GET', '{p}k'],
      ['MULTI'],
      ['INCR', '{p}k'],
      ['EXEC'],
      ['GET', '{p}k'],
    );
    expect(said).to.equal(
      `${ok.repeat(20)}${bulk('19')}${ok}${queued}${array(':20\r\n')}${bulk('20')}`,
    );
  });

  it('resp transactions: CLIENT INFO shows what is queued and watched', async () => {
    const said = await run(['WATCH', 'k'], ['CLIENT', 'INFO']);
    expect(said).to.match(/flags=N .*multi=-1 watch=1 /);
  });

  // ---- several keys as one -----------------------------------------------------------------

  it('resp transactions: RENAME takes value and time to live along, RENAMENX no name that is taken', async () => {
    expect(
      await run(
        ['SET', '{r}a', '1', 'EX', '50'],
        ['RENAME', '{r}a', '{r}b'],
        ['GET', '{r}a'],
        ['TTL', '{r}b'],
        ['RENAME', '{r}a', '{r}b'],
        ['RENAME', '{r}b', '{r}b'],
        ['SET', '{r}c', '3'],
        ['RENAMENX', '{r}b', '{r}c'],
        ['RENAMENX', '{r}b', '{r}d'],
        ['RENAMENX', '{r}d', '{r}d'],
        ['RENAMENX', '{r}b', '{r}e'],
        ['MGET', '{r}b', '{r}c', '{r}d'],
        ['RENAME', 'x', 'y'],
      ),
    ).to.equal(
      `${ok}${ok}${nil}:50\r\n${error('ERR no such key')}${ok}${ok}:0\r\n:1\r\n:0\r\n` +
        `${error('ERR no such key')}${array(nil, bulk('3'), bulk('1'))}${crossSlot}`,
    );
    expect(recordExpiresAt(stored('{r}d') as Uint8Array)).to.equal(nowMs + 50_000);
  });

  it('resp transactions: COPY leaves what is there, unless it may replace it', async () => {
    expect(
      await run(
        ['SET', '{c}a', '1'],
        ['COPY', '{c}a', '{c}b'],
        ['SET', '{c}a', '2'],
        ['COPY', '{c}a', '{c}b'],
        ['GET', '{c}b'],
        ['COPY', '{c}a', '{c}b', 'DB', '0', 'REPLACE'],
        ['GET', '{c}b'],
        ['COPY', '{c}x', '{c}b', 'REPLACE'],
        ['COPY', '{c}a', '{c}a'],
        ['COPY', '{c}a', '{c}b', 'DB', '7'],
        ['COPY', '{c}a', '{c}b', 'DB', 'x'],
        ['COPY', '{c}a', '{c}b', 'DB'],
        ['COPY', '{c}a', '{c}b', 'NOW'],
        ['COPY', '{c}a', '{d}b'],
      ),
    ).to.equal(
      `${ok}:1\r\n${ok}:0\r\n${bulk('1')}:1\r\n${bulk('2')}:0\r\n` +
        error('ERR source and destination objects are the same') +
        error('ERR COPY works within one namespace') +
        error('ERR value is not an integer or out of range') +
        error('ERR syntax error').repeat(2) +
        crossSlot,
    );
  });

  it('resp transactions: MSETNX sets all or nothing', async () => {
    expect(
      await run(
        ['MSETNX', '{m}a', '1', '{m}b', '2', '{m}a', '3'],
        ['MSETNX', '{m}c', '1', '{m}b', '9'],
        ['MGET', '{m}a', '{m}b', '{m}c'],
        ['MSETNX', '{m}c'],
        ['MSETNX', '{m}c', '1', '{m}d'],
        ['MSETNX', '{m}c', '1', '{n}d', '1'],
        ['MSETNX', '', '1'],
      ),
    ).to.equal(
      `:1\r\n:0\r\n${array(bulk('3'), bulk('2'), nil)}` +
        error("ERR wrong number of arguments for 'msetnx' command").repeat(2) +
        crossSlot +
        error('ERR key: expected 1 to 1024 bytes'),
    );
  });

  it('resp transactions: more operations than one decision takes are refused, however many', async () => {
    const pairs = (count: number): string[] =>
      Array.from({ length: count }, (_, i) => [`{m}${i}`, 'x']).flat();
    const tooMany = error('ERR expected at most 1024 operations');
    expect(await run(['MSETNX', ...pairs(1024)])).to.equal(':1\r\n');
    expect(await run(['MSETNX', ...pairs(1025)])).to.equal(tooMany);
    // One stack frame for each operation would end the gateway.
    expect(await run(['MSETNX', ...pairs(30_000)])).to.equal(tooMany);
    const names = pairs(30_000).filter((_, i) => i % 2 === 0);
    expect(await run(['MULTI'], ['DEL', ...names], ['EXEC'])).to.equal(
      `${ok}+QUEUED\r\n${tooMany}`,
    );
    expect(await run(['GET', '{m}1023'])).to.equal(bulk('x'));
  });

  it('resp transactions: commands of several keys inside a transaction', async () => {
    expect(
      await run(
        ['SET', '{q}a', '1'],
        ['MULTI'],
        ['RENAME', '{q}a', '{q}b'],
        ['RENAME', '{q}a', '{q}b'],
        ['COPY', '{q}b', '{q}c'],
        ['MSETNX', '{q}c', '9', '{q}d', '9'],
        ['INCR', '{q}c'],
        ['EXEC'],
        ['MGET', '{q}a', '{q}b', '{q}c', '{q}d'],
      ),
    ).to.equal(
      `${ok}${ok}${queued.repeat(5)}` +
        array(ok, error('ERR no such key'), ':1\r\n', ':0\r\n', ':2\r\n') +
        array(nil, bulk('1'), bulk('2'), nil),
    );
  });
});
