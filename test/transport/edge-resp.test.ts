// The Redis edge with a stand-in for the gateway: limits, back-pressure both ways, clients that
// misbehave, and streams of noise; others are served all the while.

import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { Socket } from 'node:net';
import { expect } from 'chai';
import fc from 'fast-check';
import type { RespAnswers, RespBatch } from '../../actors/gateway/protocol.ts';
import { failure, type Failure } from '../../runtime/errors.ts';
import { RespEdge, type RespEdgeLimits } from '../../transport/edge-resp.ts';
import { command, exchange, RawConnection } from '../kit-resp.ts';

type Done = (problem: Failure | undefined, answers: RespAnswers | undefined) => void;
type Gateway = (batch: RespBatch, done: Done) => void;

const bytesOf = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'latin1'));
const answer = (text: string, count: number, isLast = false): RespAnswers => ({
  bytes: bytesOf(text),
  count,
  isLast,
  isLoggedIn: true,
});

/** `+1\r\n` for a command of one argument, `+2\r\n` for two, ... */
const counting: Gateway = ({ commands }, done) =>
  setImmediate(() => {
    const text = commands.map(({ args }) => `+${args.length}\r\n`).join('');
    done(undefined, answer(text, commands.length));
  });

describe('resp edge', () => {
  let edge: RespEdge;
  let port: number;
  let gateway: Gateway;
  const batches: RespBatch[] = [];
  const closed: number[] = [];

  async function listen(
    limits: Partial<RespEdgeLimits> = {},
    requiresLogin = false,
  ): Promise<void> {
    edge = new RespEdge({
      host: '127.0.0.1',
      port: 0,
      limits,
      requiresLogin,
      opened: () => undefined,
      closed: (connection) => closed.push(connection),
      run: (batch, _timeoutMs, done) => {
        batches.push(batch);
        gateway(batch, done);
      },
    });
    ({ port } = await edge.listen());
  }

  beforeEach(() => {
    gateway = counting;
    batches.length = 0;
    closed.length = 0;
  });
  afterEach(async () => {
    await edge.close();
  });

  it('resp edge: a flood of commands becomes batches, one at a time, and is slowed down', async () => {
    await listen();
    let isRunning = false;
    gateway = (batch, done) => {
      expect(isRunning).to.equal(false);
      isRunning = true;
      setImmediate(() => {
        isRunning = false;
        counting(batch, done);
      });
    };
    const said = await exchange(port, Buffer.concat(Array<Buffer>(50_000).fill(command('a', 'b'))));
    expect(said).to.equal('+2\r\n'.repeat(50_000));
    expect(Math.max(...batches.map(({ commands }) => commands.length))).to.equal(128);
  });

  it('resp edge: commands that were not answered come again, before those after them', async () => {
    await listen();
    gateway = ({ commands }, done) =>
      setImmediate(() => {
        const [first] = commands;
        done(undefined, answer(`+${Buffer.from(first?.args[0] ?? []).toString()}\r\n`, 1));
      });
    const commands = Array.from({ length: 300 }, (_, i) => command(String(i)));
    expect(await exchange(port, Buffer.concat(commands))).to.equal(
      commands.map((_, i) => `+${i}\r\n`).join(''),
    );
  });

  it('resp edge: a client that reads nothing gets no more work done, and is cut off', async () => {
    await listen({ outputBytes: 100_000, stallMs: 200 });
    const big = `$100000\r\n${'x'.repeat(100_000)}\r\n`;
    gateway = ({ commands }, done) =>
      setImmediate(() => done(undefined, answer(big.repeat(commands.length), commands.length)));
    const silent = new RawConnection(port);
    silent.socket.pause();
    const flood = Buffer.concat(Array<Buffer>(2000).fill(command('x')));
    silent.send(flood);
    while (closed.length === 0) {
      // Others are served all the while.
      expect((await exchange(port, command('x'))).length).to.equal(big.length);
      closed.splice(0, closed.length, ...closed.filter((id) => id === 1));
    }
    const answered = batches.filter(({ connection }) => connection === 1);
    // Far from all 2,000: a batch or two, and what fits into the kernel's buffers.
    expect(answered.reduce((sum, { commands }) => sum + commands.length, 0)).to.be.below(1000);
    silent.close();
  });

  it('resp edge: more unread answers than the hard limit end the connection at once', async () => {
    await listen({ outputBytes: 1000, outputBytesHard: 20_000_000 });
    gateway = (_batch, done) =>
      setImmediate(() => done(undefined, answer('x'.repeat(40_000_000), 1)));
    const silent = new RawConnection(port);
    silent.socket.pause();
    silent.send(command('x'));
    while (closed.length === 0) await new Promise((resolve) => setImmediate(resolve));
    silent.close();
  });

  it('resp edge: where answers that nobody reads are too many, the connection with most is cut off', async () => {
    const big = 40_000_000;
    await listen({ unreadBytes: 60_000_000, outputBytesHard: 100_000_000 });
    gateway = ({ commands }, done) =>
      setImmediate(() => {
        const bytes = Number(Buffer.from(commands[0]?.args[0] ?? []).toString());
        done(undefined, answer('x'.repeat(bytes), commands.length));
      });
    const silent = (bytes: number): RawConnection => {
      const connection = new RawConnection(port);
      connection.socket.pause();
      connection.send(command(String(bytes)));
      return connection;
    };
    const most = silent(big);
    while (batches.length < 1) await new Promise((resolve) => setImmediate(resolve));
    const less = silent(big / 2);
    while (batches.length < 2) await new Promise((resolve) => setImmediate(resolve));
    const least = silent(big / 2 - 1);
    while (closed.length === 0) await new Promise((resolve) => setImmediate(resolve));
    expect(closed).to.deep.equal([1]);
    // What it held counts no more: there is room for what the others ask.
    const other = silent(1_000_000);
    while (batches.length < 4) await new Promise((resolve) => setImmediate(resolve));
    expect(await exchange(port, command('5'))).to.equal('xxxxx');
    expect(closed.filter((id) => id !== 5)).to.deep.equal([1]);
    for (const connection of [most, less, least, other]) connection.close();
  });

  it('resp edge: the last answer of a connection counts as unread too', async () => {
    await listen({ unreadBytes: 60_000_000, outputBytesHard: 100_000_000 });
    gateway = ({ connection }, done) =>
      setImmediate(() => done(undefined, answer('x'.repeat(40_000_000), 1, connection === 2)));
    const connections = [new RawConnection(port), new RawConnection(port)];
    for (const [i, connection] of connections.entries()) {
      connection.socket.pause();
      connection.send(command('x'));
      while (batches.length <= i) await new Promise((resolve) => setImmediate(resolve));
    }
    while (closed.length === 0) await new Promise((resolve) => setImmediate(resolve));
    expect(closed).to.deep.equal([1]);
    for (const connection of connections) connection.close();
  });

  it('resp edge: a connection over the limit is refused, and others can come when one has gone', async () => {
    await listen({ connections: 2 });
    const first = new RawConnection(port);
    const second = new RawConnection(port);
    expect(await first.ask('+1\r\n', 'x')).to.equal('+1\r\n');
    expect(await second.ask('+1\r\n', 'x')).to.equal('+1\r\n');
    expect(await exchange(port)).to.equal('-ERR max number of clients reached\r\n');
    first.close();
    while (closed.length === 0) await new Promise((resolve) => setImmediate(resolve));
    expect(await exchange(port, command('x'))).to.equal('+1\r\n');
    second.close();
  });

  it('resp edge: where all together hold too much, those that hold most are ended', async () => {
    await listen({ inputBytes: 1_000_000, bulkBytes: 10_000_000, commandBytes: 20_000_000 });
    const modest = new RawConnection(port);
    expect(await modest.ask('+1\r\n', 'x')).to.equal('+1\r\n');
    const greedy = new RawConnection(port);
    greedy.send('*1\r\n$9000000\r\n');
    greedy.send(Buffer.alloc(2_000_000));
    expect(await greedy.take(4)).to.equal('-OOM');
    await greedy.closed();
    expect(await modest.ask('+1\r\n', 'x')).to.equal('+1\r\n');
    modest.close();
  });

  it('resp edge: a gateway that fails or ends the connection is answered for, then it closes', async () => {
    await listen();
    gateway = (_batch, done) =>
      setImmediate(() => done(failure('ACTOR_RESTARTED', { actor: 'a' }), undefined));
    expect(await exchange(port, command('x'), command('y'))).to.equal(
      '-ERR ACTOR_RESTARTED The actor failed on this message. (actor=a)\r\n',
    );
    gateway = (_batch, done) => setImmediate(() => done(undefined, answer('+OK\r\n', 1, true)));
    expect(await exchange(port, command('x'), command('y'))).to.equal('+OK\r\n');
  });

  it('resp edge: closing answers what is open', async () => {
    await listen();
    const held: (() => void)[] = [];
    gateway = (batch, done) => held.push(() => counting(batch, done));
    const connection = new RawConnection(port);
    connection.send(command('x'));
    while (held.length === 0) await new Promise((resolve) => setImmediate(resolve));
    const ended = edge.close();
    held[0]?.();
    expect(await connection.take(4)).to.equal('+1\r\n');
    await ended;
    await connection.closed();
    await listen();
  });

  /** AUTH is under way, then `bytes` more arrive; what the client has heard when AUTH is answered. */
  async function sentDuringAuth(bytes: number): Promise<string> {
    const accepted: Socket[] = [];
    const onSocket = (message: unknown): void =>
      void accepted.push((message as { readonly socket: Socket }).socket);
    subscribe('net.server.socket', onSocket);
    let finish: (() => void) | undefined;
    gateway = ({ commands }, done) => {
      if (commands.length > 1) return counting({ connection: 1, commands }, done);
      finish = () => done(undefined, answer('+IN\r\n', 1));
    };
    const auth = command('AUTH', 'x');
    const connection = new RawConnection(port);
    connection.send(auth);
    connection.send('\n'.repeat(bytes - 12) + 'PING\r\nPING\r\n');
    while (accepted[0]?.bytesRead !== auth.length + bytes && closed.length === 0)
      await new Promise((resolve) => setImmediate(resolve));
    unsubscribe('net.server.socket', onSocket);
    finish?.();
    const said = await connection.take('+IN\r\n+1\r\n+1\r\n'.length);
    if (said.startsWith('+IN')) connection.close();
    const rest = await connection.take(1000);
    while (closed.length === 0) await new Promise((resolve) => setImmediate(resolve));
    closed.length = 0;
    return said + rest;
  }

  it('resp edge: while AUTH is under way as many bytes may wait, not one more (limit=1 MiB)', async () => {
    await listen({}, true);
    expect(await sentDuringAuth(1024 * 1024)).to.equal('+IN\r\n+1\r\n+1\r\n');
    expect(await sentDuringAuth(1024 * 1024 + 1)).to.equal(
      '-ERR Protocol error: unauthenticated input: expected at most 1048576 bytes before AUTH is answered\r\n',
    );
  });

  it('resp edge: before a login commands go one by one, and a flood of them does not go deep', async () => {
    await listen({}, true);
    const refused = { ...answer('-NOAUTH\r\n', 1), isLoggedIn: false };
    // At once, within the same turn.
    gateway = (_batch, done) => done(undefined, refused);
    const said = await exchange(port, 'PING\r\n'.repeat(50_000));
    expect(said).to.equal('-NOAUTH\r\n'.repeat(50_000));
    expect(new Set(batches.map(({ commands }) => commands.length))).to.deep.equal(new Set([1]));
  });

  it('resp edge: streams of noise end their own connection at most', async () => {
    await listen({ bulkBytes: 1000, commandBytes: 5000, arguments: 20 });
    const good = new RawConnection(port);
    const fragment = fc.oneof(
      fc.constantFrom(
        '*2\r\n',
        '$3\r\n',
        'GET\r\n',
        '\r\n',
        '*-1\r\n',
        '$1001\r\n',
        '*21\r\n',
        '"',
      ),
      fc.string({ maxLength: 40 }),
      fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes).toString('latin1')),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(fragment, { maxLength: 30 }), async (parts) => {
        const said = await exchange(port, ...parts.map((part) => Buffer.from(part, 'latin1')));
        expect(said).to.match(/^(\+\d+\r\n)*(-ERR Protocol error: [^\r\n]*\r\n)?$/);
        expect(await good.ask('+1\r\n', 'x')).to.equal('+1\r\n');
      }),
      { numRuns: Number(process.env['KVD_FUZZ_RUNS'] ?? 150) },
    );
    good.close();
  });
});
