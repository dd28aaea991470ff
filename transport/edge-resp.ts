// The Redis socket: bytes become batches of commands for the gateway, its answers go back in their
// order, those of all connections together (turn-writes.ts). The edge knows limits and
// back-pressure, no command.
//
// One batch of a connection is under way at a time; what arrives meanwhile is parsed up to the size
// of the next one and then left in the kernel's buffers, so that a client that sends without end is
// slowed down. A client that does not read its answers gets no more work done, and is cut off when
// it takes next to nothing for a while (rules SE-7, SE-24).

import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import {
  type GatewayTimeouts,
  type RespAnswers,
  respAnswerMs,
  type RespBatch,
  type RespCommand,
  type RespConnectionStart,
  usualTimeouts,
} from '../actors/gateway/protocol.ts';
import { arrayOverheadBytes } from '../runtime/bytes.ts';
import { describeFailure, errorTable, type Failure } from '../runtime/errors.ts';
import { FailedHandshakes, type FailureHost } from './failed-handshakes.ts';
import { listenError } from './listen-error.ts';
import { ConnectionCap, type ConnectionLimits, defaultConnectionLimits } from './connection-cap.ts';
import { limitsBeforeLogin, RespParser } from './resp-parser.ts';
import { readShared } from './shared-reads.ts';
import { SendProgress } from './stall-watch.ts';
import { type EdgeTls, edgeTlsOptions, renewServer, type TlsMaterial } from './tls.ts';
import { TurnWrites } from './turn-writes.ts';

export interface RespEdgeOptions {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly opened: (start: RespConnectionStart) => void;
  readonly closed: (connection: number) => void;
  /** `done` gets exactly one of the two. kernel.ask, with the gateway's ref. */
  readonly run: (
    batch: RespBatch,
    timeoutMs: number,
    done: (problem: Failure | undefined, answers: RespAnswers | undefined) => void,
  ) => void;
  /** Those of the gateway, which answers by them. Default: as their settings are by default. */
  readonly timeouts?: GatewayTimeouts;
  readonly limits?: Partial<RespEdgeLimits>;
  /** Until the gateway says that a connection has logged in, `limitsBeforeLogin` hold. Default false. */
  readonly requiresLogin?: boolean;
  /** Where connections are told of that come to nothing; absent: nowhere. */
  readonly reports?: FailureHost;
  /** Absent: nothing is encrypted. */
  readonly tls?: EdgeTls | undefined;
}

export interface RespEdgeLimits extends ConnectionLimits {
  /** Longest argument, bytes. Default 1 MiB; longer ones are passed over and refused. */
  readonly bulkBytes: number;
  /** Longest command, bytes. Default 16 MiB. */
  readonly commandBytes: number;
  /** Most arguments of a command. Default 1,048,576. */
  readonly arguments: number;
  /** Bytes of commands that all connections together hold. Default 256 MiB. */
  readonly inputBytes: number;
  /** A connection that has so many bytes of answers unread runs nothing more. Default 1 MiB. */
  readonly outputBytes: number;
  /** A connection with more is cut off. Default 128 MiB. */
  readonly outputBytesHard: number;
  /** Of all connections together; with more, the one that has most unread is cut off. Default 256 MiB. */
  readonly unreadBytes: number;
  /** A command that has begun and does not end within this time ends its connection. Default 60 s. */
  readonly commandMs: number;
  /** A connection that has to log in and has not for this long ends. Default 10 s. */
  readonly loginMs: number;
}

export const defaultRespLimits: RespEdgeLimits = {
  ...defaultConnectionLimits,
  bulkBytes: 1024 * 1024,
  commandBytes: 16 * 1024 * 1024,
  arguments: 1024 * 1024,
  inputBytes: 256 * 1024 * 1024,
  outputBytes: 1024 * 1024,
  outputBytesHard: 128 * 1024 * 1024,
  unreadBytes: 256 * 1024 * 1024,
  commandMs: 60_000,
  loginMs: 10_000,
};

/** Commands of one batch, and of the one that is prepared meanwhile. */
const batchCommands = 128;
const batchBytes = 1024 * 1024;
const closeTimeoutMs = 5000;
const keepAliveMs = 300_000;
/** What may arrive of a connection that has not logged in and is not read as commands yet. */
export const unparsedBytesBeforeLogin = 1024 * 1024;
/** A connection that holds less is not blamed for what all hold together. */
const modestBytes = 64 * 1024;
/** Answers of a connection that may wait for the end of the turn; more of them leave at once. */
const waitingBytes = 64 * 1024;
/** How often stalled connections are looked for, in parts of the time that they may stall. */
const stallChecks = 4;

export class RespEdge {
  readonly #options: RespEdgeOptions;
  readonly #limits: RespEdgeLimits;
  /** The gateway ends a batch before. */
  readonly #answerMs: number;
  readonly #server: Server;
  readonly #connections = new Set<Connection>();
  #nextId = 1;
  #heldBytes = 0;
  #unreadBytes = 0;
  #isClosing = false;
  readonly #failed: FailedHandshakes | undefined;
  #stallTimer: NodeJS.Timeout | undefined;
  readonly #writes = new TurnWrites<Connection>((connection) => connection.flush());

  constructor(options: RespEdgeOptions) {
    this.#options = options;
    this.#answerMs = respAnswerMs(options.timeouts ?? usualTimeouts);
    this.#limits = { ...defaultRespLimits, ...options.limits };
    const how = { allowHalfOpen: true, noDelay: true } as const;
    const accept = (socket: Socket): void => this.#accept(socket);
    const { tls } = options;
    this.#server =
      tls === undefined
        ? createServer(how, accept)
        : createTlsServer({ ...how, ...edgeTlsOptions(tls, this.#limits.handshakeMs) }, accept);
    if (tls !== undefined) {
      const event = 'client.handshake-failed';
      this.#failed = new FailedHandshakes({ port: 'resp', event, host: options.reports });
      this.#failed.watch(this.#server);
    }
    const { connections: total, connectionsPerAddress: perAddress } = this.#limits;
    const reserved = this.#limits.connectionsReserved;
    const isEncrypted = tls !== undefined;
    new ConnectionCap({ total, perAddress, reserved, isEncrypted, refused }).watch(this.#server);
  }

  /** BAD_REQUEST where the address cannot be had, with what to do about it. */
  async listen(): Promise<{ readonly port: number }> {
    const { host, port } = this.#options;
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (error) =>
        reject(listenError(error, { host, port, field: 'resp-port' })),
      );
      this.#server.listen(port, host, resolve);
    });
    const { stallMs, commandMs, loginMs } = this.#limits;
    const checkMs = Math.min(stallMs, commandMs, loginMs) / stallChecks;
    this.#stallTimer = setInterval(() => this.#cutStalled(), checkMs);
    this.#stallTimer.unref();
    const address = this.#server.address();
    return { port: address !== null && typeof address === 'object' ? address.port : port };
  }

  /** For connections from now on. */
  renewTls(material: TlsMaterial): void {
    renewServer(this.#server, material);
  }

  /** Takes no more connections or commands, answers what is open, cuts what is left after 5 s. */
  async close(): Promise<void> {
    this.#isClosing = true;
    clearInterval(this.#stallTimer);
    const ended = new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
    this.#failed?.end();
    for (const connection of this.#connections) connection.finish();
    const cut = setTimeout(() => {
      for (const connection of this.#connections) connection.cut();
    }, closeTimeoutMs);
    await ended;
    clearTimeout(cut);
  }

  #accept(socket: Socket): void {
    socket.on('error', () => socket.destroy());
    // Refused by the cap, or too late.
    if (this.#isClosing || socket.writableEnded) {
      socket.end();
      socket.resume();
      return;
    }
    socket.setKeepAlive(true, keepAliveMs);
    const id = this.#nextId;
    this.#nextId += 1;
    const connection = new Connection(id, socket, {
      limits: this.#limits,
      requiresLogin: this.#options.requiresLogin === true,
      answerMs: this.#answerMs,
      run: this.#options.run,
      hold: (bytes) => this.#hold(bytes),
      holdUnread: (bytes) => this.#holdUnread(bytes),
      writes: this.#writes,
    });
    this.#connections.add(connection);
    const { remoteAddress, remotePort, localAddress, localPort } = socket;
    this.#options.opened({
      connection: id,
      remote: `${remoteAddress ?? ''}:${remotePort ?? 0}`,
      local: `${localAddress ?? ''}:${localPort ?? 0}`,
    });
    socket.on('close', () => {
      this.#connections.delete(connection);
      connection.released();
      this.#options.closed(id);
    });
  }

  /** Counts bytes that a connection holds more or less; false: all together hold too many. */
  #hold(bytes: number): boolean {
    this.#heldBytes += bytes;
    return this.#heldBytes <= this.#limits.inputBytes;
  }

  /** Counts bytes of answers that a connection has unread, more or less. */
  #holdUnread(bytes: number): void {
    this.#unreadBytes += bytes;
    if (bytes <= 0 || this.#unreadBytes <= this.#limits.unreadBytes) return;
    let most: Connection | undefined;
    for (const connection of this.#connections)
      if (connection.unreadBytes > (most?.unreadBytes ?? 0)) most = connection;
    most?.cut();
  }

  #cutStalled(): void {
    for (const connection of this.#connections) connection.checkStall(performance.now());
  }
}

/** In the words of Redis. */
const refused = '-ERR max number of clients reached\r\n';

const tooMuchBeforeLogin = `-ERR Protocol error: unauthenticated input: expected at most ${unparsedBytesBeforeLogin} bytes before AUTH is answered\r\n`;

const tooLateForLogin = (loginMs: number): string =>
  `-ERR Protocol error: expected AUTH within ${loginMs} ms\r\n`;

interface ConnectionParts {
  readonly limits: RespEdgeLimits;
  readonly requiresLogin: boolean;
  readonly answerMs: number;
  readonly run: RespEdgeOptions['run'];
  readonly hold: (bytes: number) => boolean;
  readonly holdUnread: (bytes: number) => void;
  readonly writes: TurnWrites<Connection>;
}

class Connection {
  readonly #id: number;
  readonly #socket: Socket;
  readonly #parts: ConnectionParts;
  readonly #parser: RespParser;
  /** Parsed, not yet under way. */
  #queue: RespCommand[] = [];
  #queuedBytes = 0;
  #isRunning = false;
  /** Or nobody has to. Else commands go one by one: whatever follows AUTH has other limits. */
  #isLoggedIn: boolean;
  /** Since when it would have to log in. */
  #strangerSinceMs = performance.now();
  #isAdvancing = false;
  #isAdvanceDue = false;
  /** Nothing more is read: the client has ended, or the node does. */
  #isEnding = false;
  #isEnded = false;
  #heldBytes = 0;
  /** What the kernel has not taken of answers. */
  #unreadBytes = 0;
  readonly #progress: SendProgress;
  /** Answers that leave at the end of the turn. */
  #outgoing: Uint8Array[] = [];
  #outgoingBytes = 0;
  #isReading = false;
  /** Since when a half command is all there is; looked at now and then. */
  #halfSinceMs: number | undefined;

  constructor(id: number, socket: Socket, parts: ConnectionParts) {
    this.#id = id;
    this.#socket = socket;
    this.#progress = new SendProgress(socket, performance.now());
    this.#parts = parts;
    this.#isLoggedIn = !parts.requiresLogin;
    this.#parser = new RespParser(parts.requiresLogin ? limitsBeforeLogin : parts.limits);
    readShared(socket, (chunk) => this.#read(chunk));
    socket.on('end', () => this.finish());
    socket.on('drain', () => {
      this.#countUnread(socket.writableLength);
      this.#advance();
    });
  }

  get unreadBytes(): number {
    return this.#unreadBytes;
  }

  /** Answers what has come and closes. */
  finish(): void {
    this.#isEnding = true;
    this.#advance();
  }

  cut(): void {
    this.#socket.destroy();
    this.#countUnread(0);
  }

  /** The socket is gone: nothing is held any more. */
  released(): void {
    this.#isEnded = true;
    this.#queue = [];
    this.#outgoing = [];
    this.#parts.hold(-this.#heldBytes);
    this.#heldBytes = 0;
    this.#countUnread(0);
  }

  checkStall(nowMs: number): void {
    if (this.#progress.isStalled(nowMs, this.#parts.limits.stallMs)) this.cut();
    this.#checkHalfCommand(nowMs);
    this.#checkLogin(nowMs);
  }

  /** Connections are few: those who may use them shall not find them taken by those who may not. */
  #checkLogin(nowMs: number): void {
    const { loginMs } = this.#parts.limits;
    if (this.#isLoggedIn || this.#isRunning || this.#isEnded) return;
    if (nowMs - this.#strangerSinceMs >= loginMs) this.#end(tooLateForLogin(loginMs));
  }

  /** A command that comes a byte at a time holds memory and never ends. */
  #checkHalfCommand(nowMs: number): void {
    const isHalf = this.#parser.heldBytes > 0 && this.#queue.length === 0 && !this.#isRunning;
    if (!isHalf) this.#halfSinceMs = undefined;
    else this.#halfSinceMs ??= nowMs;
    const { commandMs } = this.#parts.limits;
    if (this.#halfSinceMs !== undefined && nowMs - this.#halfSinceMs >= commandMs && !this.#isEnded)
      this.#end('-ERR Protocol error: the command did not arrive in time\r\n');
  }

  #read(chunk: Uint8Array): void {
    // What comes while the connection ends is not looked at.
    if (this.#isEnding || this.#isEnded) return;
    if (!this.#isLoggedIn && this.#parser.heldBytes + chunk.length > unparsedBytesBeforeLogin)
      return this.#end(tooMuchBeforeLogin);
    this.#parser.feed(chunk);
    this.#isReading = true;
    this.#advance();
    this.#isReading = false;
  }

  #write(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    if (this.#outgoing.length === 0) this.#parts.writes.add(this, this.#isReading);
    this.#outgoing.push(bytes);
    this.#outgoingBytes += bytes.length;
    if (this.#outgoingBytes >= waitingBytes) this.flush();
  }

  /** Writes what has been answered; nothing where nothing has. */
  flush(): void {
    const [first, ...rest] = this.#outgoing;
    if (first === undefined) return;
    this.#outgoing = [];
    this.#outgoingBytes = 0;
    if (rest.length > 0) this.#socket.cork();
    this.#socket.write(first);
    for (const bytes of rest) this.#socket.write(bytes);
    if (rest.length > 0) this.#socket.uncork();
    this.#countUnread(this.#socket.writableLength);
  }

  #countUnread(bytes: number): void {
    const more = bytes - this.#unreadBytes;
    if (more === 0) return;
    this.#unreadBytes = bytes;
    this.#parts.holdUnread(more);
  }

  /** Parses, starts the next batch and stops or continues reading, as far as each may go now. */
  #advance(): void {
    // An answer that is there at once goes on in the loop below and not deeper in the stack.
    this.#isAdvanceDue = true;
    if (this.#isAdvancing) return;
    this.#isAdvancing = true;
    while (this.#isAdvanceDue && !this.#isEnded) {
      this.#isAdvanceDue = false;
      this.#parse();
      if (this.#mayRun()) this.#runNext();
    }
    this.#isAdvancing = false;
    if (this.#isEnded) return;
    this.#account();
    if (!this.#endIfDone()) this.#adjustReading();
  }

  #isQueueFull(): boolean {
    if (!this.#isLoggedIn) return this.#queue.length > 0;
    return this.#queue.length >= batchCommands || this.#queuedBytes >= batchBytes;
  }

  #parse(): void {
    if (!this.#isLoggedIn && this.#isRunning) return;
    while (!this.#isQueueFull()) {
      const command = this.#parser.read();
      if (command === undefined) return;
      this.#halfSinceMs = undefined;
      this.#queue.push(command);
      for (const argument of command.args)
        this.#queuedBytes += argument.length + arrayOverheadBytes;
    }
  }

  #mayRun(): boolean {
    const { outputBytes } = this.#parts.limits;
    const isRead = this.#socket.writableLength < outputBytes;
    return !this.#isRunning && this.#queue.length > 0 && isRead;
  }

  #runNext(): void {
    const commands = this.#queue;
    this.#queue = [];
    this.#queuedBytes = 0;
    this.#isRunning = true;
    const { run, answerMs } = this.#parts;
    run({ connection: this.#id, commands }, answerMs, (problem, answers) => {
      this.#isRunning = false;
      if (this.#isEnded) return;
      if (answers === undefined) this.#end(problemLine(problem));
      else this.#answer(commands, answers);
    });
  }

  #answer(commands: readonly RespCommand[], answers: RespAnswers): void {
    const { bytes, count, isLast, isLoggedIn } = answers;
    if (isLast) return this.#end(bytes);
    if (isLoggedIn !== this.#isLoggedIn && this.#parts.requiresLogin) {
      this.#isLoggedIn = isLoggedIn;
      if (!isLoggedIn) this.#strangerSinceMs = performance.now();
      this.#parser.limit(isLoggedIn ? this.#parts.limits : limitsBeforeLogin);
    }
    if (count < commands.length) this.#queue = [...commands.slice(count), ...this.#queue];
    this.#write(bytes);
    if (this.#socket.writableLength > this.#parts.limits.outputBytesHard) return this.cut();
    this.#advance();
  }

  /** True: the connection ends now. */
  #endIfDone(): boolean {
    if (this.#isRunning || this.#queue.length > 0) return false;
    const { problem } = this.#parser;
    if (problem !== undefined) this.#end(`-ERR ${problem}\r\n`);
    else if (this.#isEnding) this.#end('');
    return this.#isEnded;
  }

  #end(last: string | Uint8Array): void {
    this.flush();
    this.#isEnded = true;
    this.#queue = [];
    // What still comes is dropped, so that the end arrives and not a reset.
    this.#socket.resume();
    this.#socket.end(last);
    this.#countUnread(this.#socket.writableLength);
    setTimeout(() => this.#socket.destroy(), closeTimeoutMs).unref();
  }

  #adjustReading(): void {
    const isFull =
      this.#isQueueFull() || this.#socket.writableLength >= this.#parts.limits.outputBytes;
    if (isFull && !this.#socket.isPaused()) this.#socket.pause();
    else if (!isFull && this.#socket.isPaused()) this.#socket.resume();
  }

  /** Tells how much is held; ends the connection where all together hold too much. */
  #account(): void {
    const held = this.#parser.heldBytes + this.#queuedBytes;
    const isWithin = this.#parts.hold(held - this.#heldBytes);
    this.#heldBytes = held;
    if (!isWithin && held > modestBytes && !this.#isEnded)
      this.#end('-OOM too many bytes of commands are waiting on this node\r\n');
  }
}

/** The gateway did not answer: whether the commands had an effect is not known. */
function problemLine(problem: Failure | undefined): string {
  if (problem === undefined) return '-ERR no answer\r\n';
  return `-${errorTable[problem.code].resp} ${problem.code} ${describeFailure(problem).replace(/[\r\n]+/g, ' ')}\r\n`;
}
