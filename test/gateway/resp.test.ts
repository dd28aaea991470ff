// The Redis face, byte by byte: an edge on a socket, the real gateway, stand-in coordinators. What is
// expected here is what Redis 7 answers, where kvd does the same.

import { expect } from 'chai';
import { refTo } from '../../runtime/actor.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { type ErrorCode, errorTable, failure } from '../../runtime/errors.ts';
import { respCommands } from '../../actors/gateway/resp-commands.ts';
import { RespGateway } from '../../actors/gateway/protocol.ts';
import type { SerialChange } from '../../actors/gateway/serial-operations.ts';
import { changed } from '../../actors/catalog/changes.ts';
import { firstDocument } from '../../actors/model/namespaces.ts';
import { recordExpiresAt, recordValue, recordValueType } from '../../actors/model/record.ts';
import type { WriteRequest } from '../../actors/replication/protocol.ts';
import { nowMs, send, sendJson, startCluster, type TestCluster } from '../kit-gateway.ts';
import { type Argument, command, exchange, RawConnection } from '../kit-resp.ts';

const bulk = (text: string): string => `$${Buffer.byteLength(text)}\r\n${text}\r\n`;
const array = (...items: readonly string[]): string => `*${items.length}\r\n${items.join('')}`;
const nil = '$-1\r\n';
const ok = '+OK\r\n';

describe('resp', () => {
  let cluster: TestCluster;
  const run = (...commands: readonly (readonly Argument[])[]): Promise<string> =>
    exchange(cluster.respPort, Buffer.concat(commands.map((args) => command(...args))));
  const one = (...args: readonly Argument[]): Promise<string> => run(args);
  const stored = (key: string): Uint8Array => cluster.backend.records.get(key) as Uint8Array;
  const valueOf = (key: string): string => utf8.decode(recordValue(stored(key)));
  const levels = (): string[] => cluster.backend.seen.map(({ request }) => request.level);

  beforeEach(async () => {
    cluster = await startCluster({ limits: { valueBytes: 2000, ttlSecondsMax: 1_000_000 } });
  });
  afterEach(async () => {
    await cluster.close();
  });

  // ---- values ------------------------------------------------------------------------------

  it('resp: a value is set, read, measured and deleted', async () => {
    expect(
      await run(
        ['GET', 'k'],
        ['SET', 'k', 'välue\r\n'],
        ['get', 'k'],
        ['STRLEN', 'k'],
        ['TYPE', 'k'],
        ['EXISTS', 'k', 'k', 'x'],
        ['DEL', 'k', 'k', 'x'],
        ['GET', 'k'],
        ['STRLEN', 'k'],
        ['TYPE', 'k'],
      ),
    ).to.equal(
      `${nil}${ok}$8\r\n${Buffer.from('välue\r\n').toString('latin1')}\r\n:8\r\n+string\r\n:2\r\n:1\r\n${nil}:0\r\n+none\r\n`,
    );
  });

  it('resp: keys and values are any bytes', async () => {
    const key = Uint8Array.from([0, 255, 13, 10, 42]);
    const value = Uint8Array.from({ length: 256 }, (_, i) => i);
    const text = Buffer.from(value).toString('latin1');
    expect(await run(['SET', key, value], ['GET', key])).to.equal(`${ok}$256\r\n${text}\r\n`);
  });

  it('resp: MSET and MGET keep their order, and the last value of a repeated key counts', async () => {
    expect(
      await run(
        ['MSET', 'a', '1', 'b', '2', 'a', '3'],
        ['MGET', 'b', 'x', 'a', 'b'],
        ['MSET', 'a'],
        ['MSET', 'a', '1', 'b'],
      ),
    ).to.equal(
      `${ok}${array(bulk('2'), nil, bulk('3'), bulk('2'))}` +
        "-ERR wrong number of arguments for 'mset' command\r\n".repeat(2),
    );
  });

  for (const [first, last, expected] of [
    ['0', '-1', 'Hello'],
    ['1', '2', 'el'],
    ['-3', '-2', 'll'],
    ['0', '100', 'Hello'],
    ['-100', '1', 'He'],
    ['3', '2', ''],
    ['9', '12', ''],
    ['-9', '-7', 'H'],
    ['-100', '-50', 'H'],
    ['0', '-7', 'H'],
    ['1', '-7', ''],
    ['-5', '-6', ''],
    ['-3', '-10', ''],
  ] as const)
    it(`resp: GETRANGE ${first} ${last} is what Redis gives`, async () => {
      await one('SET', 'k', 'Hello');
      expect(await one('GETRANGE', 'k', first, last)).to.equal(bulk(expected));
      expect(await one('GETRANGE', 'none', first, last)).to.equal(bulk(''));
    });

  it('resp: SETRANGE of nothing changes nothing, and says how long the value is', async () => {
    expect(
      await run(
        ['SETRANGE', 'none', '5', ''],
        ['EXISTS', 'none'],
        ['SET', 'k', 'Hello'],
        ['SETRANGE', 'k', '9', ''],
        ['SETRANGE', 'k', '9999999999', ''],
        ['GET', 'k'],
        ['SETRANGE', 'k', '-1', ''],
      ),
    ).to.equal(`:0\r\n:0\r\n${ok}:5\r\n:5\r\n${bulk('Hello')}-ERR offset is out of range\r\n`);
    expect(cluster.backend.serial).to.deep.equal([]);
    expect(await run(['MULTI'], ['SETRANGE', 'k', '9', ''], ['EXEC'])).to.equal(
      `${ok}+QUEUED\r\n${array(':5\r\n')}`,
    );
  });

  it('resp: INCRBYFLOAT adds as people do, and prints no exponent', async () => {
    expect(
      await run(
        ['SET', 'f', '0.1'],
        ['INCRBYFLOAT', 'f', '0.2'],
        ['INCRBYFLOAT', 'f', '-0.3000001'],
        ['INCRBYFLOAT', 'f', '1e22'],
        ['SET', 'f', 'x'],
        ['INCRBYFLOAT', 'f', '1'],
      ),
    ).to.equal(
      `${ok}${bulk('0.3')}${bulk('-0.0000001')}${bulk('9999999999999999999999.9999999')}${ok}` +
        '-ERR value is not a valid float\r\n',
    );
  });

  it('resp: a JSON value of the REST face reads as its text, and a rewrite leaves its type', async () => {
    await sendJson(cluster.port, 'PUT', '/api/v1/keys/j', '{"value":{"a":1}}');
    expect(await run(['GET', 'j'], ['EXPIRE', 'j', '100'])).to.equal(`${bulk('{"a":1}')}:1\r\n`);
    expect(recordValueType(stored('j'))).to.equal(1);
    expect((await send(cluster.port, 'GET', '/api/v1/keys/j')).text).to.include('"value":{"a":1}');
  });

  it('resp: a key at the limit is taken, an empty or longer one is refused', async () => {
    const longest = 'k'.repeat(1024);
    expect(await run(['SET', longest, 'v'], ['SET', `${longest}k`, 'v'], ['GET', ''])).to.equal(
      `${ok}-ERR TOO_LARGE key: expected 1 to 1024 bytes\r\n-ERR key: expected 1 to 1024 bytes\r\n`,
    );
  });

  it('resp: a serial command refuses an empty or longer key as a plain one does, also in MULTI', async () => {
    const rest = [
      ...[['INCR'], ['INCRBY', '2'], ['DECR'], ['DECRBY', '2'], ['INCRBYFLOAT', '1.5']],
      ...[['APPEND', 'v'], ['SETNX', 'v'], ['GETSET', 'v'], ['SETRANGE', '1', 'v'], ['GETDEL']],
      ...[['DELEX'], ['DELEX', 'IFEQ', 'v'], ['EXPIRE', '5'], ['PEXPIREAT', '5'], ['PERSIST']],
      ...[
        ['GETEX', 'EX', '5'],
        ['GETEX', 'PERSIST'],
        ['SET', 'v', 'NX'],
        ['SET', 'v', 'XX'],
      ],
      ...[
        ['SET', 'v', 'GET'],
        ['SET', 'v', 'KEEPTTL'],
        ['KV.CAS', 'a', 'b'],
      ],
    ];
    for (const [key, words] of [
      ['', '-ERR key: expected 1 to 1024 bytes\r\n'],
      ['k'.repeat(1025), '-ERR TOO_LARGE key: expected 1 to 1024 bytes\r\n'],
    ] as const)
      for (const [name = '', ...args] of rest) {
        expect(await one(name, key, ...args), name).to.equal(words);
        const [, , ...said] = (await run(['MULTI'], [name, key, ...args], ['EXEC'])).split('\r\n');
        expect(said.join('\r\n'), `${name} in MULTI`).to.equal(`*1\r\n${words}`);
      }
    expect(cluster.backend.serial).to.deep.equal([]);
    expect(cluster.backend.records.size).to.equal(0);
  });

  it('resp: a value at the limit is taken, a longer one is refused and the connection goes on', async () => {
    const value = 'v'.repeat(2000);
    expect(
      await run(
        ['SET', 'k', value],
        ['SET', 'k', `${value}v`],
        ['SET', 'k', 'v'.repeat(100_000)],
        ['GET', 'k'],
      ),
    ).to.equal(
      `${ok}${"-ERR TOO_LARGE an argument of 'set' is over its limit (a value may have 2000 bytes)\r\n".repeat(2)}${bulk(value)}`,
    );
  });

  // ---- time to live ------------------------------------------------------------------------

  for (const [words, ttlMs] of [
    ['EX 10', 10_000],
    ['PX 1500', 1500],
    ['ex 1000000', 1_000_000_000],
  ] as const)
    it(`resp: SET with ${words} expires in ${ttlMs} ms`, async () => {
      expect(await one('SET', 'k', 'v', ...words.split(' '))).to.equal(ok);
      expect(recordExpiresAt(stored('k'))).to.equal(nowMs + ttlMs);
    });

  it('resp: SETEX, PSETEX, TTL and its family agree', async () => {
    const at = String(nowMs / 1000 + 20);
    expect(
      await run(
        ['SETEX', 'a', '10', 'v'],
        ['PSETEX', 'b', '1500', 'v'],
        ['SET', 'c', 'v'],
        ['TTL', 'a'],
        ['PTTL', 'a'],
        ['TTL', 'b'],
        ['PTTL', 'b'],
        ['TTL', 'c'],
        ['PTTL', 'x'],
        ['EXPIREAT', 'c', at],
        ['EXPIRETIME', 'c'],
        ['PEXPIRETIME', 'c'],
        ['PEXPIRETIME', 'x'],
        ['PERSIST', 'c'],
        ['PERSIST', 'c'],
        ['EXPIRETIME', 'c'],
      ),
    ).to.equal(
      `${ok.repeat(3)}:10\r\n:10000\r\n:2\r\n:1500\r\n:-1\r\n:-2\r\n` +
        `:1\r\n:${at}\r\n:${at}000\r\n:-2\r\n:1\r\n:0\r\n:-1\r\n`,
    );
  });

  for (const [words, hasExpiry, answer] of [
    ['', true, 1],
    ['NX', true, 0],
    ['NX', false, 1],
    ['XX', true, 1],
    ['XX', false, 0],
    ['GT', true, 1],
    ['GT', false, 0],
    ['LT', true, 0],
    ['LT', false, 1],
    ['XX LT', false, 0],
  ] as const)
    it(`resp: EXPIRE ${words} of a key ${hasExpiry ? 'with' : 'without'} expiry answers ${answer}`, async () => {
      await one('SET', 'k', 'v', ...(hasExpiry ? ['EX', '50'] : []));
      const args = ['EXPIRE', 'k', '100', ...words.split(' ').filter((word) => word !== '')];
      const before = recordExpiresAt(stored('k'));
      expect(await one(...args)).to.equal(`:${answer}\r\n`);
      expect(recordExpiresAt(stored('k'))).to.equal(answer === 1 ? nowMs + 100_000 : before);
      expect(valueOf('k')).to.equal('v');
    });

  it('resp: EXPIRE in the past deletes, of no key it is 0', async () => {
    await one('SET', 'k', 'v');
    expect(await run(['EXPIRE', 'k', '-1'], ['EXISTS', 'k'], ['EXPIRE', 'k', '9'])).to.equal(
      ':1\r\n:0\r\n:0\r\n',
    );
  });

  it('resp: KEEPTTL keeps it, a plain SET takes it away', async () => {
    await run(['SET', 'k', 'v', 'EX', '50'], ['SET', 'k', 'w', 'KEEPTTL']);
    expect([valueOf('k'), recordExpiresAt(stored('k'))]).to.deep.equal(['w', nowMs + 50_000]);
    await one('SET', 'k', 'x');
    expect(recordExpiresAt(stored('k'))).to.equal(0);
  });

  it('resp: changes of the time to live are single decisions, none of them a plain write', async () => {
    await one('SET', 'k', 'v', 'EX', '50');
    cluster.backend.seen.length = 0;
    const commands = [
      ['EXPIRE', 'k', '9'],
      ['PEXPIREAT', 'k', String(nowMs + 5000)],
      ['GETEX', 'k', 'PX', '7'],
      ['SET', 'k', 'w', 'KEEPTTL'],
      ['PERSIST', 'k'],
      ['GETDEL', 'k'],
    ];
    await run(...commands);
    expect(cluster.backend.seen).to.deep.equal([]);
    expect(cluster.backend.serial.map(({ request }) => request.verb)).to.deep.equal([
      ...['expire', 'expire', 'expire', 'write', 'expire', 'delete'],
    ]);
  });

  it('resp: a moment that is over deletes the key, whichever command names it', async () => {
    const past = String(nowMs / 1000 - 5);
    for (const command of [
      ['EXPIREAT', 'k', past],
      ['SET', 'k', 'w', 'XX', 'EXAT', past],
      ['GETEX', 'k', 'EXAT', past],
    ]) {
      await one('SET', 'k', 'v');
      await one(...command);
      expect(await one('GET', 'k'), command[0]).to.equal(nil);
    }
  });

  it('resp: DELEX deletes what it expects and nothing else: a lock is given back by its owner', async () => {
    expect(
      await run(
        ['SET', 'lock', Uint8Array.from([0xff]), 'NX', 'PX', '5000'],
        ['SET', 'lock', 'b', 'NX', 'PX', '5000'],
        ['DELEX', 'lock', 'IFEQ', Uint8Array.from([0xfe])],
        ['DELEX', 'lock', 'IFEQ', Uint8Array.from([0xff])],
        ['DELEX', 'lock', 'IFEQ', 'b'],
        ['DELEX', 'lock'],
        ['DELEX', 'lock', 'IFNE', 'b'],
        ['DELEX', 'lock', 'IFEQ'],
      ),
    ).to.equal(`${ok}${nil}:0\r\n:1\r\n:0\r\n:0\r\n${'-ERR syntax error\r\n'.repeat(2)}`);
  });

  it('resp: GETEX and GETDEL give the value and do the rest', async () => {
    await one('SET', 'k', 'v');
    expect(await run(['GETEX', 'k', 'EX', '9'], ['TTL', 'k'])).to.equal(`${bulk('v')}:9\r\n`);
    expect(await run(['GETEX', 'k'], ['TTL', 'k'])).to.equal(`${bulk('v')}:9\r\n`);
    expect(await run(['GETEX', 'k', 'PERSIST'], ['TTL', 'k'])).to.equal(`${bulk('v')}:-1\r\n`);
    expect(await run(['GETDEL', 'k'], ['GETDEL', 'k'])).to.equal(`${bulk('v')}${nil}`);
    expect(await run(['GETEX', 'k', 'EX', '9'])).to.equal(nil);
  });

  for (const [args, answer] of [
    [['SET', 'k', 'v', 'EX'], 'ERR syntax error'],
    [['SET', 'k', 'v', 'EX', 'ten'], 'ERR value is not an integer or out of range'],
    [['SET', 'k', 'v', 'EX', '0'], "ERR invalid expire time in 'set' command"],
    [['SET', 'k', 'v', 'PX', '-5'], "ERR invalid expire time in 'set' command"],
    [['SET', 'k', 'v', 'EX', '1000001'], "ERR invalid expire time in 'set' command"],
    [['SET', 'k', 'v', 'EX', '9007199254740993'], 'ERR value is not an integer or out of range'],
    [['SET', 'k', 'v', 'EX', '5', 'PX', '5'], 'ERR syntax error'],
    [['SET', 'k', 'v', 'EX', '5', 'KEEPTTL'], 'ERR syntax error'],
    [['SET', 'k', 'v', 'NX', 'XX'], 'ERR syntax error'],
    [['SET', 'k', 'v', 'bogus'], 'ERR syntax error'],
    [['SETEX', 'k', '0', 'v'], "ERR invalid expire time in 'setex' command"],
    [['PSETEX', 'k', 'x', 'v'], 'ERR value is not an integer or out of range'],
    [['GETEX', 'k', 'EX'], 'ERR syntax error'],
    [['GETEX', 'k', 'PERSIST', '5'], 'ERR syntax error'],
    [['EXPIRE', 'k', 'x'], 'ERR value is not an integer or out of range'],
    [['EXPIRE', 'k', '1000001'], "ERR invalid expire time in 'expire' command"],
    [['EXPIRE', 'k', '9', 'QQ'], 'ERR Unsupported option qq'],
    [
      ['EXPIRE', 'k', '9', 'NX', 'GT'],
      'ERR NX and XX, GT or LT options at the same time are not compatible',
    ],
    [['EXPIRE', 'k', '9', 'GT', 'LT'], 'ERR GT and LT options at the same time are not compatible'],
    [['GET'], "ERR wrong number of arguments for 'get' command"],
    [['GET', 'a', 'b'], "ERR wrong number of arguments for 'get' command"],
    [['NOPE', 'a b', 'c'], "ERR unknown command 'NOPE', with args beginning with: 'a b' 'c' "],
    [['a\r\nb'], "ERR unknown command 'a\\x0d\\x0ab', with args beginning with: "],
    [['SCAN', 'x'], 'ERR invalid cursor'],
    [['SCAN', '-1'], 'ERR invalid cursor'],
    [['SCAN', '12345'], 'ERR invalid cursor'],
    [['SCAN', '0', 'COUNT', '0'], 'ERR syntax error'],
    [['SCAN', '0', 'COUNT', 'x'], 'ERR value is not an integer or out of range'],
    [['SCAN', '0', 'MATCH'], 'ERR syntax error'],
    [['SCAN', '0', 'MATCH', '['.repeat(1025)], 'ERR TOO_LARGE a pattern has at most 1024 bytes'],
    [['KEYS', '*'.repeat(1025)], 'ERR TOO_LARGE a pattern has at most 1024 bytes'],
    [
      ['COMMAND', 'LIST', 'FILTERBY', 'PATTERN', '['.repeat(1025)],
      'ERR TOO_LARGE a pattern has at most 1024 bytes',
    ],
    [
      ['CONFIG', 'GET', ...Array<string>(101).fill('x')],
      'ERR TOO_LARGE CONFIG GET takes 100 patterns',
    ],
    [
      ['CLIENT', 'LIST', 'ID', ...Array<string>(1001).fill('1')],
      'ERR TOO_LARGE CLIENT LIST takes 1000 ids',
    ],
    [
      ['COMMAND', 'INFO', ...Array<string>(1001).fill('get')],
      'ERR TOO_LARGE COMMAND takes 1000 names',
    ],
    [
      ['COMMAND', 'DOCS', ...Array<string>(1001).fill('get')],
      'ERR TOO_LARGE COMMAND takes 1000 names',
    ],
    [['SELECT', '1'], 'ERR DB index is out of range'],
    [['SELECT', 'x'], 'ERR invalid DB index'],
    [['HELLO', '4'], 'NOPROTO unsupported protocol version'],
    [['HELLO', 'x'], 'ERR Protocol version is not an integer or out of range'],
    [['HELLO', '3', 'SETNAME'], "ERR Syntax error in HELLO option 'SETNAME'"],
    [['CLIENT', 'NOPE'], "ERR unknown subcommand 'NOPE'. Try CLIENT HELP."],
    [['CLIENT', 'SETNAME'], "ERR wrong number of arguments for 'client|setname' command"],
    [
      ['CLIENT', 'SETNAME', 'a b'],
      'ERR Client names cannot contain spaces, newlines or special characters.',
    ],
    [['CLUSTER', 'NOPE'], "ERR unknown subcommand 'NOPE'. Try CLUSTER HELP."],
    [['CLUSTER', 'KEYSLOT'], "ERR wrong number of arguments for 'cluster|keyslot' command"],
    [['SLOWLOG', 'GET', 'x'], 'ERR value is not an integer or out of range'],
    [['SLOWLOG', 'GET', '-2'], 'ERR count should be greater than or equal to -1'],
    [['SLOWLOG', 'LEN', '1'], "ERR wrong number of arguments for 'slowlog|len' command"],
    [['LATENCY', 'GRAPH', 'command'], "ERR unknown subcommand 'GRAPH'. Try LATENCY HELP."],
    [['LATENCY', 'HISTORY'], "ERR wrong number of arguments for 'latency|history' command"],
    [['DEBUG', 'SLEEP', '1'], 'ERR not implemented: DEBUG needs debugging commands, not there yet'],
    [['KV.EXPLAIN', ''], 'ERR key: expected 1 to 1024 bytes'],
    [['CONFIG', 'SET', 'a', 'b'], 'ERR not implemented: CONFIG SET'],
    [['KV.CONSISTENCY', 'lots'], 'ERR unknown consistency level'],
  ] as const)
    it(`resp: refused in the words of Redis (${args.join(' ').slice(0, 80).replace(/\s/g, ' ')})`, async () => {
      const said = await one(...args);
      expect(said.startsWith(`-${answer}`), said).to.equal(true);
      expect(said.indexOf('\r\n')).to.equal(said.length - 2);
      expect(cluster.backend.records.size).to.equal(0);
    });

  // ---- pages of keys -----------------------------------------------------------------------

  it('resp: lists of names and ids up to their limit (limit=1000)', async () => {
    const ids = Array.from({ length: 1000 }, (_, i) => String(i + 1));
    expect((await one('CLIENT', 'LIST', 'ID', ...ids)).split('id=').length - 1).to.equal(1);
    const infos = await one('COMMAND', 'INFO', ...Array<string>(1000).fill('nope'));
    expect(infos).to.equal(`*1000\r\n${'*-1\r\n'.repeat(1000)}`);
  });

  it('resp: SCAN gives each key once, over any number of pages and nodes', async () => {
    const keys = Array.from({ length: 57 }, (_, i) => `key:${i}`);
    await run(...keys.map((key) => ['SET', key, 'v'] as const));
    const found: string[] = [];
    let cursor = '0';
    do {
      const text = await one('SCAN', cursor, 'COUNT', '10');
      const [, next = '', rest = ''] = /^\*2\r\n\$\d+\r\n(\d+)\r\n(.*)$/s.exec(text) ?? [];
      expect(Number.isSafeInteger(Number(next))).to.equal(true);
      found.push(...[...rest.matchAll(/\$\d+\r\n(key:\d+)\r\n/g)].map(([, key = '']) => key));
      cursor = next;
    } while (cursor !== '0');
    expect([...found].sort()).to.deep.equal([...keys].sort());
    const places = cluster.backend.seen.map(
      ({ request }) => (request as { readonly namespace: number }).namespace,
    );
    // The cursors are beside the log of batches and what replicas have promised, not among them.
    expect([...new Set(places)]).to.have.members([0, 0xffff_fff2]);
  });

  it('resp: MATCH and TYPE choose, and only the part under the prefix is read', async () => {
    await run(['MSET', 'a1', 'v', 'a2', 'v', 'b1', 'v', 'a[', 'v']);
    expect(await one('SCAN', '0', 'MATCH', 'a?')).to.equal(
      array(bulk('0'), array(bulk('a1'), bulk('a2'), bulk('a['))),
    );
    const { request } = cluster.backend.seen.at(-1) ?? {};
    expect(utf8.decode((request as { prefix: Uint8Array }).prefix)).to.equal('a');
    expect(await one('SCAN', '0', 'MATCH', 'a\\[')).to.equal(array(bulk('0'), array(bulk('a['))));
    expect(await one('SCAN', '0', 'TYPE', 'string', 'COUNT', '99')).to.include(bulk('b1'));
    expect(await one('SCAN', '0', 'TYPE', 'hash')).to.equal(array(bulk('0'), array()));
    expect(await one('KEYS', '*1')).to.equal(array(bulk('a1'), bulk('b1')));
  });

  // ---- the connection ----------------------------------------------------------------------

  it('resp: HELLO chooses the version, and nil and maps change with it', async () => {
    const connection = new RawConnection(cluster.respPort);
    const expected2 = array(
      ...[bulk('server'), bulk('redis'), bulk('version'), bulk('7.0.0'), bulk('proto'), ':2\r\n'],
      ...[bulk('id'), ':1\r\n', bulk('mode'), bulk('standalone'), bulk('role'), bulk('master')],
      ...[bulk('modules'), array()],
    );
    const expected3 = expected2.replace('*14', '%7').replace(':2\r\n', ':3\r\n');
    expect(await connection.ask(expected2, 'HELLO')).to.equal(expected2);
    expect(await connection.ask(nil, 'GET', 'x')).to.equal(nil);
    const batch = Buffer.concat([
      command('GET', 'x'),
      command('HELLO', '3', 'SETNAME', 'me'),
      command('GET', 'x'),
      command('CLIENT', 'GETNAME'),
      command('CONFIG', 'GET', 'save'),
      command('RESET'),
      command('GET', 'x'),
    ]);
    connection.send(batch);
    const answers = `${nil}${expected3}_\r\n${bulk('me')}%1\r\n${bulk('save')}${bulk('')}+RESET\r\n${nil}`;
    expect(await connection.take(answers.length)).to.equal(answers);
    connection.close();
  });

  it('resp: PING, ECHO, SELECT, CLIENT and QUIT answer as Redis does', async () => {
    expect(
      await run(
        ['PING'],
        ['PING', 'hi'],
        ['ECHO', 'ho'],
        ['SELECT', '0'],
        ['CLIENT', 'ID'],
        ['CLIENT', 'GETNAME'],
        ['CLIENT', 'SETNAME', 'me'],
        ['CLIENT', 'SETINFO', 'LIB-NAME', 'x'],
        ['CLIENT', 'NO-EVICT', 'on'],
        ['CONFIG', 'GET', 'append*', 'save'],
        ['WAIT', '1', '0'],
        ['QUIT'],
        ['PING'],
      ),
    ).to.equal(
      `+PONG\r\n${bulk('hi')}${bulk('ho')}${ok}:1\r\n${nil}${ok.repeat(3)}` +
        `${array(bulk('appendonly'), bulk('yes'), bulk('save'), bulk(''))}:0\r\n${ok}`,
    );
  });

  it('resp: CLIENT REPLY switches answers off, skips one, and on again', async () => {
    expect(
      await run(
        ['CLIENT', 'REPLY', 'SKIP'],
        ['SET', 'a', '1'],
        ['ECHO', '1'],
        ['CLIENT', 'REPLY', 'OFF'],
        ['SET', 'b', '2'],
        ['ECHO', '2'],
        ['CLIENT', 'REPLY', 'ON'],
        ['MGET', 'a', 'b'],
      ),
    ).to.equal(`${bulk('1')}${ok}${array(bulk('1'), bulk('2'))}`);
  });

  it('resp: CLIENT LIST chooses by type and id, and refuses what is neither', async () => {
    const count = async (...words: readonly string[]): Promise<number> =>
      (await one('CLIENT', 'LIST', ...words)).split('id=').length - 1;
    expect(await count('TYPE', 'normal')).to.equal(1);
    for (const type of ['replica', 'slave', 'master', 'pubsub'])
      expect(await one('CLIENT', 'LIST', 'TYPE', type), type).to.equal(bulk(''));
    expect(await count('ID', '1', '99999')).to.be.within(0, 1);
    expect(await one('CLIENT', 'LIST', 'TYPE', 'Bogus')).to.equal(
      "-ERR Unknown client type 'Bogus'\r\n",
    );
    expect(await one('CLIENT', 'LIST', 'ID', 'x')).to.equal('-ERR Invalid client ID\r\n');
    for (const words of [['TYPE'], ['ID'], ['TYPE', 'normal', 'ID', '3'], ['USER', 'x']])
      expect(await one('CLIENT', 'LIST', ...words)).to.equal('-ERR syntax error\r\n');
  });

  it('resp: CLIENT LIST has a line per connection, with what each one set', async () => {
    const other = new RawConnection(cluster.respPort);
    await other.ask(ok, 'CLIENT', 'SETNAME', 'other');
    const list = await one('CLIENT', 'LIST');
    expect(list.match(/\nid=\d+ addr=127\.0\.0\.1:\d+ /g)).to.have.length(2);
    expect(list).to.include('name=other').and.to.include('level=QUORUM');
    other.close();
  });

  it('resp: DBSIZE and INFO keyspace say what the nodes said, of all namespaces together', async () => {
    await cluster.close();
    const made = changed(firstDocument, { kind: 'create', name: 'a', settings: {} }, nowMs);
    const access = { isRequired: false, operationsPerAddressMax: 0, document: made };
    cluster = await startCluster({ access });
    // The stand-in for gossip has 100 records on its node.
    expect(await run(['DBSIZE'], ['SELECT', '1'], ['DBSIZE'])).to.equal(`:100\r\n${ok}:100\r\n`);
    expect(await run(['SELECT', '1'], ['INFO', 'keyspace'])).to.contain('db0:keys=100,');
  });

  it('resp: KV.CONSISTENCY holds for its connection, until RESET', async () => {
    expect(
      await run(
        ['KV.CONSISTENCY'],
        ['KV.CONSISTENCY', 'one'],
        ['SET', 'k', 'v'],
        ['GET', 'k'],
        ['KV.CONSISTENCY'],
        ['RESET'],
        ['GET', 'k'],
      ),
    ).to.equal(
      `${array(bulk('read'), bulk('QUORUM'), bulk('write'), bulk('QUORUM'))}${ok}${ok}${bulk('v')}` +
        `${array(bulk('read'), bulk('ONE'), bulk('write'), bulk('ONE'))}+RESET\r\n${bulk('v')}`,
    );
    expect(levels()).to.deep.equal(['ONE', 'ONE', 'QUORUM']);
  });

  it('resp: inline commands work as in a terminal', async () => {
    expect(await exchange(cluster.respPort, 'SET k "a b"\r\nGET k\nPING\r\n')).to.equal(
      `${ok}${bulk('a b')}+PONG\r\n`,
    );
  });

  it("resp: a browser's request ends the connection (SE-8)", async () => {
    const said = await exchange(cluster.respPort, 'POST / HTTP/1.1\r\nHost: x\r\n\r\nPING\r\n');
    expect(said).to.equal('-ERR this is the Redis protocol, not HTTP\r\n');
    expect(await exchange(cluster.respPort, 'GET / HTTP/1.1\r\nHost: x\r\n\r\nPING\r\n')).to.equal(
      "-ERR wrong number of arguments for 'get' command\r\n-ERR this is the Redis protocol, not HTTP\r\n",
    );
  });

  it('resp: a protocol error is answered after what came before it, then the connection ends', async () => {
    expect(
      await exchange(cluster.respPort, command('SET', 'k', 'v'), '*1\r\n:1\r\nPING\r\n'),
    ).to.equal(`${ok}-ERR Protocol error: expected '$', got ':'\r\n`);
  });

  // ---- the table ---------------------------------------------------------------------------

  it('resp: COMMAND says what the table says', async () => {
    expect(await one('COMMAND', 'COUNT')).to.equal(`:${respCommands.length}\r\n`);
    expect(await one('COMMAND', 'INFO', 'get', 'nope')).to.equal(
      array(
        array(
          ...[bulk('get'), ':2\r\n', array('+readonly\r\n', '+fast\r\n'), ':1\r\n', ':1\r\n'],
          ...[':1\r\n', array('+@string\r\n', '+@fast\r\n'), array(), array(), array()],
        ),
        '*-1\r\n',
      ),
    );
    expect(await one('COMMAND', 'DOCS', 'mget')).to.include('The values of several keys.');
    expect(await one('COMMAND', 'LIST', 'FILTERBY', 'PATTERN', 'get*')).to.include('getdel');
    expect(await one('COMMAND', 'GETKEYS', 'mset', 'a', '1', 'b', '2')).to.equal(
      array(bulk('a'), bulk('b')),
    );
    expect((await one('COMMAND')).startsWith(`*${respCommands.length}\r\n`)).to.equal(true);
  });

  for (const { name, arity, missing } of respCommands)
    it(`resp: ${name} checks its count of arguments and answers`, async () => {
      const least = Math.abs(arity);
      const few = [name, ...Array.from({ length: Math.max(0, least - 2) }, () => 'x')];
      if (least > 1)
        expect(await one(...few)).to.equal(
          `-ERR wrong number of arguments for '${name}' command\r\n`,
        );
      const right = [name, ...Array.from({ length: least - 1 }, () => '1')];
      const said = await run(right, ['PING']);
      if (name === 'quit') expect(said).to.equal(ok);
      else if (name === 'multi') expect(said).to.equal(`${ok}+QUEUED\r\n`);
      else expect(said.endsWith('+PONG\r\n'), said).to.equal(true);
      if (missing !== undefined) expect(said).to.include('not implemented');
      else expect(said).not.to.include('BUG').and.not.to.include('no answer');
    });

  // ---- failures ----------------------------------------------------------------------------

  for (const [code, fields, answer] of [
    [
      'UNAVAILABLE',
      { required: 2 },
      'CLUSTERDOWN UNAVAILABLE Too few replicas are alive. (required=2)',
    ],
    ['OVERLOADED', {}, 'BUSY OVERLOADED A queue is full; slow down and try again.'],
    ['DISK_FULL', {}, 'OOM DISK_FULL The disk is full; reads go on.'],
    ['TIMEOUT', {}, 'ERR TIMEOUT Not enough answers in time.'],
    ['BAD_REQUEST', { detail: 'two\r\nlines' }, 'ERR two lines'],
    ['NOT_IMPLEMENTED', { detail: 'this' }, 'ERR not implemented: this'],
  ] as const)
    it(`resp: a failure keeps its prefix and code (${code})`, async () => {
      cluster.backend.failing.set('n1', failure(code, fields));
      const expected = `-${answer}\r\n`;
      expect(
        await run(['SET', 'k', 'v'], ['GET', 'k'], ['MGET', 'a', 'b'], ['SCAN', '0']),
      ).to.equal(expected.repeat(4));
      expect(errorTable[code as ErrorCode].resp).to.equal(answer.split(' ', 1)[0]);
    });

  it('resp: while the node drains keys are refused with LOADING, and what is open is answered', async () => {
    cluster.backend.hanging.add('slow');
    const connection = new RawConnection(cluster.respPort);
    connection.send(command('SET', 'slow', 'v'));
    await until(() => cluster.backend.held.length === 1);
    let isIdle = false;
    const { kernel } = cluster;
    kernel.ask(refTo(RespGateway, 'n1'), 'startDraining', {}, 5000, () => {
      isIdle = true;
    });
    expect(await one('GET', 'k')).to.match(/^-LOADING DRAINING this node is stopping/);
    expect(await one('PING')).to.equal('+PONG\r\n');
    expect(isIdle).to.equal(false);
    const [held] = cluster.backend.held;
    const etag = { hlc: 1, writer: 1, incarnation: 1 };
    held?.resolve({
      ...etag,
      version: 1,
      expiresAt: 0,
      existed: false,
      coordinator: 'n1',
      explanation: undefined,
    });
    expect(await connection.take(ok.length)).to.equal(ok);
    await until(() => isIdle);
    connection.close();
  });

  it('resp: a write that may have happened in part says so', async () => {
    cluster.backend.hanging.add('never');
    const connection = new RawConnection(cluster.respPort);
    connection.send(command('MSET', 'k', 'v', 'never', 'v'));
    await until(() => cluster.backend.held.length === 1);
    cluster.backend.held[0]?.fail(failure('OVERLOADED'));
    const expected = '-ERR UNKNOWN_OUTCOME 1 of 2 keys were written, then OVERLOADED\r\n';
    expect(await connection.take(expected.length)).to.equal(expected);
    connection.close();
  });

  // ---- order -------------------------------------------------------------------------------

  it('resp: commands on one key run in their order, others overlap', async () => {
    cluster.backend.hanging.add('slow');
    const connection = new RawConnection(cluster.respPort);
    connection.send(
      Buffer.concat([
        command('SET', 'slow', '1'),
        command('SET', 'quick', '2'),
        command('GET', 'quick'),
        command('MGET', 'other', 'slow'),
        command('SET', 'last', '3'),
      ]),
    );
    await until(() => cluster.backend.seen.length >= 4);
    const asked = cluster.backend.seen.map(
      ({ verb, request }) => `${verb} ${utf8.decode((request as WriteRequest).key)}`,
    );
    // MGET waits for the write of `slow`; what comes after it does not. GET comes after its SET.
    expect(asked).to.have.members(['write slow', 'write quick', 'write last', 'read quick']);
    expect(asked.indexOf('read quick')).to.be.greaterThan(asked.indexOf('write quick'));
    cluster.backend.hanging.clear();
    const etag = { hlc: 1, writer: 1, incarnation: 1 };
    const reply = {
      ...etag,
      version: 1,
      expiresAt: 0,
      existed: false,
      coordinator: 'n1',
      explanation: undefined,
    };
    cluster.backend.held[0]?.resolve(reply);
    const expected = `${ok}${ok}${bulk('2')}${array(nil, nil)}${ok}`;
    expect(await connection.take(expected.length)).to.equal(expected);
    connection.close();
  });

  it('resp: 10,000 commands in one write are answered in their order', async () => {
    const commands = Array.from({ length: 10_000 }, (_, i) =>
      i % 2 === 0 ? command('SET', `k${i % 100}`, String(i)) : command('GET', `k${(i - 1) % 100}`),
    );
    const expected = commands.map((_, i) => (i % 2 === 0 ? ok : bulk(String(i - 1)))).join('');
    expect(await exchange(cluster.respPort, Buffer.concat(commands))).to.equal(expected);
  });

  it('resp: large answers end a batch early, and nothing is lost or repeated', async () => {
    await cluster.close();
    cluster = await startCluster();
    const value = 'x'.repeat(1024 * 1024);
    await one('SET', 'big', value);
    const commands = Array.from({ length: 60 }, (_, i) => [
      command('GET', 'big'),
      command('ECHO', String(i)),
    ]).flat();
    const said = await exchange(cluster.respPort, Buffer.concat(commands));
    const expected = Array.from({ length: 60 }, (_, i) => bulk(value) + bulk(String(i))).join('');
    expect(said.length).to.equal(expected.length);
    expect(said === expected).to.equal(true);
  });
});

describe('resp: serial operations', () => {
  it('resp: conditions and counters are asked of the serial operations and rendered', async () => {
    const asked: SerialChange[] = [];
    const outcome = { isApplied: false, before: utf8.encode('old'), after: utf8.encode('7') };
    const cluster = await startCluster({
      serial: {
        change: ({ change }, _what, _deadlineMs, done) => {
          asked.push(change);
          done(undefined, outcome);
        },
      },
    });
    const commands = [
      ['SET', 'k', 'v', 'NX', 'EX', '5'],
      ['SET', 'k', 'v', 'XX', 'GET'],
      ['SETNX', 'k', 'v'],
      ['GETSET', 'k', 'v'],
      ['INCR', 'k'],
      ['DECRBY', 'k', '4'],
      ['INCRBYFLOAT', 'k', '1.5'],
      ['INCRBYFLOAT', 'k', 'x'],
      ['APPEND', 'k', 'v'],
      ['SETRANGE', 'k', '2', 'v'],
      ['SETRANGE', 'k', '-2', 'v'],
      ['KV.CAS', 'k', 'a', 'b'],
      ['INCRBY', 'k', 'x'],
    ];
    const said = await exchange(
      cluster.respPort,
      Buffer.concat(commands.map((args) => command(...args))),
    );
    expect(said).to.equal(
      `${nil}${bulk('old')}:0\r\n${bulk('old')}:7\r\n:7\r\n${bulk('7')}-ERR value is not a valid float\r\n` +
        ':1\r\n:1\r\n-ERR offset is out of range\r\n:0\r\n-ERR value is not an integer or out of range\r\n',
    );
    const value = utf8.encode('v');
    const set = { kind: 'set', value, ttlMs: 0, expiresAt: 0, keepsTtl: false } as const;
    expect(asked).to.deep.equal([
      { ...set, condition: 'absent', ttlMs: 5000 },
      { ...set, condition: 'present' },
      { ...set, condition: 'absent' },
      { ...set, condition: 'none' },
      { kind: 'add', delta: 1 },
      { kind: 'add', delta: -4 },
      { kind: 'add-float', delta: 1.5 },
      { kind: 'append', value },
      { kind: 'overwrite', offset: 2, value },
      { kind: 'replace', expected: utf8.encode('a'), value: utf8.encode('b') },
    ]);
    await cluster.close();
  });
});

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setImmediate(resolve));
}
