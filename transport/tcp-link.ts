// One connection to one thread of another node: frames out, envelopes in, answers to what came in
// leave on the same connection. What is sent within one turn of the event loop leaves together, as
// one frame where it is of one class.
//
// Three queues by class keep each other apart: control (gossip), small, and large messages; each
// is bounded in bytes and in messages, and a full one refuses at once (TR-3). While the socket is
// not drained nothing more is handed to it, so a slow reader fills the queues and not the memory.
//
// A damaged stream ends the connection. One message that this program cannot read (a newer peer's)
// is dropped alone: whoever asked meets its deadline.

import type { Socket } from 'node:net';
import { ByteWriter } from '../runtime/bytes.ts';
import type { Envelope, Link } from '../runtime/envelope.ts';
import type { Clock, Lz4 } from '../runtime/environment.ts';
import { failure, KvError } from '../runtime/errors.ts';
import type { Codec } from './codec.ts';
import {
  emptyFrame,
  framePayloadMax,
  FrameReader,
  FrameWriter,
  helloFrame,
  keptBufferBytes,
  probeFrame,
} from './frame.ts';
import { decodeHello, encodeHello, type Hello } from './handshake.ts';
import { silenceMsMax, SilenceWatch } from './silence-watch.ts';

export interface TcpLinkOptions {
  /** Connected or connecting. */
  readonly socket: Socket;
  readonly codec: Codec;
  readonly lz4: Lz4;
  readonly clock: Clock;
  readonly self: Hello;
  /** The peer's hello; the sentence that refuses it, or undefined. */
  readonly greeted: (hello: Hello, link: TcpLink) => string | undefined;
  /** The event of the socket after which this end says hello; absent: at once. */
  readonly helloAfter?: 'secureConnect' | undefined;
  readonly deliver: (envelope: Envelope) => void;
  /** A message that could not be read was dropped; called for the first of a connection. */
  readonly unreadable: (link: TcpLink, problem: KvError) => void;
  /** Once; `reason` is one sentence. */
  readonly closed: (link: TcpLink, reason: string) => void;
}

/** What may wait, by class. */
const queueBytesMax = { control: 4 << 20, small: 16 << 20, large: 64 << 20 } as const;
const queueLengthMax = { control: 16_384, small: 131_072, large: 1_024 } as const;
/** What errors may wait beyond that, in each class. */
const errorRoom = { bytes: 1 << 20, length: 4_096 } as const;
const noRoom = { bytes: 0, length: 0 } as const;
type QueueClass = keyof typeof queueBytesMax;
const classes: readonly QueueClass[] = ['control', 'small', 'large'];
/** An envelope above this size is large. */
const largeFromBytes = 64 * 1024;
/** A frame is closed when it holds this much. */
const frameBytes = 256 * 1024;
/** Beside any message in a frame: what stood there before it, and lengths. */
const envelopeBytesMax = framePayloadMax - 2 * frameBytes;
/** An idle connection is probed after so long. */
const keepAliveMs = 10_000;

interface Full {
  readonly frame: Uint8Array;
  /** Of its envelopes. */
  readonly bytes: number;
  readonly length: number;
}

/** What waits in one class: full frames, and the one that is being filled. */
class Queue {
  readonly #frame: FrameWriter;
  #full: Full[] = [];
  #bytes = 0;
  #length = 0;
  #frameBytes = 0;
  readonly #bytesMax: number;
  readonly #lengthMax: number;

  constructor(name: QueueClass, lz4: Lz4) {
    this.#frame = new FrameWriter(lz4);
    this.#bytesMax = queueBytesMax[name];
    this.#lengthMax = queueLengthMax[name];
  }

  get isEmpty(): boolean {
    return this.#length === 0;
  }

  /**
   * False: full. One message of any size may always wait: it could never be sent otherwise. `room`:
   * what this one may go over the limits.
   */
  push(envelope: Uint8Array, room: { readonly bytes: number; readonly length: number }): boolean {
    if (this.#length >= this.#lengthMax + room.length) return false;
    const bytesMax = this.#bytesMax + room.bytes;
    if (this.#length > 0 && this.#bytes + envelope.length > bytesMax) return false;
    if (this.#frame.envelopes > 0 && this.#frame.bytes + envelope.length > frameBytes)
      this.#full.push(this.#seal());
    this.#frame.add(envelope);
    this.#frameBytes += envelope.length;
    this.#bytes += envelope.length;
    this.#length += 1;
    return true;
  }

  /** The oldest frame; there has to be one. */
  take(): Uint8Array {
    const { frame, bytes, length } = this.#full.shift() ?? this.#seal();
    this.#bytes -= bytes;
    this.#length -= length;
    return frame;
  }

  #seal(): Full {
    const length = this.#frame.envelopes;
    const full = { frame: this.#frame.take(), bytes: this.#frameBytes, length };
    this.#frameBytes = 0;
    return full;
  }
}

export class TcpLink implements Link {
  readonly #options: TcpLinkOptions;
  readonly #reader: FrameReader;
  readonly #queues: Readonly<Record<QueueClass, Queue>>;
  #scratch = new ByteWriter(64 * 1024);
  #peer: Hello | undefined;
  #isClosed = false;
  #isBlocked = false;
  #isFlushing = false;
  #unreadable = 0;
  readonly #silence = new SilenceWatch();

  constructor(options: TcpLinkOptions) {
    this.#options = options;
    const { lz4 } = options;
    this.#queues = {
      control: new Queue('control', lz4),
      small: new Queue('small', lz4),
      large: new Queue('large', lz4),
    };
    this.#reader = new FrameReader(lz4, {
      hello: (bytes) => this.#greet(bytes),
      envelope: (bytes) => this.#receive(bytes),
      probe: () => this.#answerProbe(),
    });
    this.#attach();
  }

  /** The peer's id, before the handshake its address. */
  get name(): string {
    const { remoteAddress, remotePort } = this.#options.socket;
    return this.#peer?.node ?? `${remoteAddress ?? '?'}:${remotePort ?? 0}`;
  }

  /** The handshake is over and neither end has closed. */
  get isOpen(): boolean {
    return !this.#isClosed && this.#peer !== undefined;
  }

  /** Nothing leaves before the handshake. */
  get wasOpen(): boolean {
    return this.#peer !== undefined;
  }

  send(envelope: Envelope): boolean {
    if (this.#isClosed) return false;
    const { codec, clock } = this.#options;
    const nowMs = clock.monotonicMs();
    this.#scratch.reset();
    codec.encodeEnvelope(this.#scratch, envelope, nowMs);
    const bytes = this.#scratch.view();
    if (bytes.length > keptBufferBytes) this.#scratch = new ByteWriter(64 * 1024);
    if (bytes.length > envelopeBytesMax) return this.#refuse(envelope, bytes.length);
    const room = envelope.kind === 'error' ? errorRoom : noRoom;
    if (!this.#queues[classOf(envelope, bytes.length)].push(bytes, room)) return false;
    if (envelope.kind === 'ask') this.#silence.asked(nowMs, envelope.deadlineMs);
    this.#flushSoon();
    return true;
  }

  /** Probes or ends a connection whose other end is silent although it was asked; every second. */
  checkSilence(nowMs: number): void {
    if (this.#isClosed) return;
    const step = this.#silence.look(nowMs, this.#peer?.answersProbes ?? false);
    if (step === 'end') this.close(`no answer for ${silenceMsMax} ms`);
    else if (step === 'probe') this.#writeNow(probeFrame());
  }

  /** At once; what waits is lost. */
  close(reason: string): void {
    this.#end(reason, () => this.#options.socket.destroy());
  }

  /** Hands what waits to the socket and closes it when that is written. */
  finish(reason: string): void {
    if (this.isOpen) this.#write(true);
    this.#end(reason, () => this.#options.socket.destroySoon());
  }

  /** Ends a connection that `finish` could not end, because its other end does not read. */
  abandon(): void {
    this.#options.socket.destroy();
  }

  #end(reason: string, endSocket: () => void): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    endSocket();
    this.#options.closed(this, reason);
  }

  #attach(): void {
    const { socket, self, helloAfter } = this.#options;
    socket.setNoDelay(true);
    // A peer that lost its power never says goodbye.
    socket.setKeepAlive(true, keepAliveMs);
    socket.on('data', (chunk) => this.#feed(chunk));
    socket.on('drain', () => {
      this.#isBlocked = false;
      this.#flushSoon();
    });
    socket.on('error', (error) => this.close(error.message));
    socket.on('close', () => this.close('connection closed'));
    const greet = (): void => void socket.write(helloFrame(encodeHello(self)));
    if (helloAfter === undefined) greet();
    else socket.once(helloAfter, greet);
  }

  #feed(chunk: Uint8Array): void {
    if (this.#isClosed) return;
    this.#silence.heard();
    try {
      this.#reader.feed(chunk);
    } catch (error) {
      if (!(error instanceof KvError)) throw error;
      this.close(error.message);
    }
  }

  #greet(bytes: Uint8Array): void {
    if (this.#isClosed) return;
    if (this.#peer !== undefined) return this.close('a second handshake');
    const hello = decodeHello(bytes);
    const refused = this.#options.greeted(hello, this);
    if (refused !== undefined) return this.close(refused);
    this.#peer = hello;
    this.#reader.trust();
    this.#flushSoon();
  }

  #receive(bytes: Uint8Array): void {
    if (this.#isClosed) return;
    const { codec, clock, self, deliver } = this.#options;
    if (this.#peer === undefined) return this.close('a message before the handshake');
    let envelope: Envelope;
    try {
      const nowMs = clock.monotonicMs();
      envelope = codec.decodeEnvelope(bytes, nowMs, this, this.#peer.node, self.node);
    } catch (error) {
      if (!(error instanceof KvError)) throw error;
      this.#unreadable += 1;
      if (this.#unreadable === 1) this.#options.unreadable(this, error);
      return;
    }
    if (envelope.kind === 'reply' || envelope.kind === 'error') this.#silence.answered();
    deliver(envelope);
  }

  #answerProbe(): void {
    if (this.#isClosed) return;
    if (this.#peer === undefined) return this.close('a message before the handshake');
    // What is not drained is on its way, and sign of life enough.
    if (!this.#isBlocked) this.#writeNow(emptyFrame());
  }

  /** It fits into no frame: an answer becomes an error, anything else was not sent. */
  #refuse(envelope: Envelope, bytes: number): boolean {
    if (envelope.kind !== 'reply') return false;
    const problem = failure('TOO_LARGE', {
      detail: `an answer of ${bytes} bytes; at most ${envelopeBytesMax} fit into a message`,
    });
    return this.send({ ...envelope, kind: 'error', body: undefined, failure: problem });
  }

  /**
   * At the end of this turn of the event loop, whose length is what a message waits at most. A first
   * one that left at once would be a write of its own and wake the peer twice (docs/performance.md).
   */
  #flushSoon(): void {
    if (this.#isFlushing || this.#isBlocked) return;
    this.#isFlushing = true;
    setImmediate(() => {
      this.#isFlushing = false;
      if (this.isOpen && !this.#isBlocked) this.#write(false);
    });
  }

  /** Past the queues: it is tiny. */
  #writeNow(frame: Uint8Array): void {
    if (!this.#options.socket.write(frame)) this.#isBlocked = true;
  }

  /** Hands frames to the socket, as long as it takes them or `all` of them. */
  #write(all: boolean): void {
    const { socket } = this.#options;
    // Without the cork each class would be a packet of its own.
    socket.cork();
    for (const name of classes) {
      const queue = this.#queues[name];
      while (!queue.isEmpty && (all || !this.#isBlocked))
        if (!socket.write(queue.take())) this.#isBlocked = true;
    }
    socket.uncork();
  }
}

function classOf(envelope: Envelope, bytes: number): QueueClass {
  if (bytes > largeFromBytes) return 'large';
  return envelope.descriptor?.lane === 'control' ? 'control' : 'small';
}
