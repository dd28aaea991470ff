// One connection to one thread of another node: frames out, envelopes in, answers to what came in
// leave on the same connection. What is sent within one turn of the event loop leaves as one frame
// and one write.
//
// Three queues by class keep each other apart: control (gossip), small, and large messages; each
// is bounded in bytes, and a full one refuses at once (TR-3). While the socket is not drained
// nothing more is handed to it, so a slow reader fills the queues and not the memory.

import type { Socket } from 'node:net';
import { ByteWriter } from '../runtime/bytes.ts';
import type { Envelope, Link } from '../runtime/envelope.ts';
import type { Clock, Lz4 } from '../runtime/environment.ts';
import type { Codec } from './codec.ts';
import { FrameReader, FrameWriter, helloFrame } from './frame.ts';
import { decodeHello, encodeHello, type Hello } from './handshake.ts';

export interface TcpLinkOptions {
  readonly socket: Socket;
  readonly codec: Codec;
  readonly lz4: Lz4;
  readonly clock: Clock;
  readonly self: Hello;
  /** The peer's hello; the sentence that refuses it, or undefined. */
  readonly greeted: (hello: Hello, link: TcpLink) => string | undefined;
  readonly deliver: (envelope: Envelope) => void;
  /** Once; `reason` is one sentence. */
  readonly closed: (link: TcpLink, reason: string) => void;
}

/** Bytes that may wait, by class. */
const queueBytesMax = { control: 4 << 20, small: 16 << 20, large: 64 << 20 } as const;
type QueueClass = keyof typeof queueBytesMax;
const classes: readonly QueueClass[] = ['control', 'small', 'large'];
/** An envelope above this size is large. */
const largeFromBytes = 64 * 1024;
/** A frame is closed when it holds this much. */
const frameBytes = 256 * 1024;
/** Asks went out and nothing at all came in for so long: the other end is not there any more. */
export const silenceMsMax = 10_000;

interface Queue {
  readonly items: Uint8Array[];
  bytes: number;
}

export class TcpLink implements Link {
  readonly #options: TcpLinkOptions;
  readonly #frame: FrameWriter;
  readonly #scratch = new ByteWriter(64 * 1024);
  readonly #queues: Readonly<Record<QueueClass, Queue>> = {
    control: { items: [], bytes: 0 },
    small: { items: [], bytes: 0 },
    large: { items: [], bytes: 0 },
  };
  #peer: Hello | undefined;
  #isClosed = false;
  #isBlocked = false;
  #isFlushing = false;
  #heardMs: number;
  /** When the oldest ask went out since something was heard; 0: none. */
  #askedMs = 0;

  constructor(options: TcpLinkOptions) {
    this.#options = options;
    this.#frame = new FrameWriter(options.lz4);
    this.#heardMs = options.clock.monotonicMs();
    this.#attach();
  }

  get name(): string {
    const { remoteAddress, remotePort } = this.#options.socket;
    return this.#peer?.node ?? `${remoteAddress ?? '?'}:${remotePort ?? 0}`;
  }

  get isOpen(): boolean {
    return !this.#isClosed && this.#peer !== undefined;
  }

  send(envelope: Envelope): boolean {
    if (this.#isClosed) return false;
    const { codec, clock } = this.#options;
    const nowMs = clock.monotonicMs();
    this.#scratch.reset();
    codec.encodeEnvelope(this.#scratch, envelope, nowMs);
    const bytes = this.#scratch.view();
    const queue = this.#queues[classOf(envelope, bytes.length)];
    const limit = queueBytesMax[classOf(envelope, bytes.length)];
    // One message of any size may always wait: it could never be sent otherwise.
    if (queue.items.length > 0 && queue.bytes + bytes.length > limit) return false;
    queue.items.push(bytes.slice());
    queue.bytes += bytes.length;
    if (envelope.kind === 'ask' && this.#askedMs === 0) this.#askedMs = nowMs;
    this.#flushSoon();
    return true;
  }

  /** Ends a connection whose other end has been silent although it was asked. */
  checkSilence(nowMs: number): void {
    if (this.#askedMs === 0 || this.#isClosed) return;
    if (nowMs - Math.max(this.#askedMs, this.#heardMs) > silenceMsMax)
      this.close(`no answer for ${silenceMsMax} ms`);
  }

  close(reason: string): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#options.socket.destroy();
    this.#options.closed(this, reason);
  }

  #attach(): void {
    const { socket, self } = this.#options;
    const reader = new FrameReader(this.#options.lz4, {
      hello: (bytes) => this.#greet(bytes),
      envelope: (bytes) => this.#receive(bytes),
    });
    socket.setNoDelay(true);
    socket.on('data', (chunk) => {
      this.#heardMs = this.#options.clock.monotonicMs();
      this.#askedMs = 0;
      try {
        reader.feed(chunk);
      } catch (error) {
        // A peer that sends what no peer sends, or a damaged stream: nothing behind it counts.
        this.close((error as Error).message);
      }
    });
    socket.on('drain', () => {
      this.#isBlocked = false;
      this.#flushSoon();
    });
    socket.on('error', (error) => this.close(error.message));
    socket.on('close', () => this.close('connection closed'));
    socket.write(helloFrame(encodeHello(self)));
  }

  #greet(bytes: Uint8Array): void {
    if (this.#peer !== undefined) return this.close('a second handshake');
    const hello = decodeHello(bytes);
    const refused = this.#options.greeted(hello, this);
    if (refused !== undefined) return this.close(refused);
    this.#peer = hello;
    this.#flushSoon();
  }

  #receive(bytes: Uint8Array): void {
    const { codec, clock, self, deliver } = this.#options;
    if (this.#peer === undefined) return this.close('a message before the handshake');
    deliver(
      codec.decodeEnvelope(bytes, clock.monotonicMs(), this, this.#peer.node, self.node),
    );
  }

  /** One frame and one write for all that this turn of the event loop sends. */
  #flushSoon(): void {
    if (this.#isFlushing || this.#isBlocked) return;
    this.#isFlushing = true;
    setImmediate(() => {
      this.#isFlushing = false;
      this.#flush();
    });
  }

  #flush(): void {
    if (!this.isOpen || this.#isBlocked) return;
    const { socket } = this.#options;
    for (const name of classes) {
      const queue = this.#queues[name];
      let taken = 0;
      while (taken < queue.items.length && this.#frame.bytes < frameBytes) {
        const bytes = queue.items[taken] as Uint8Array;
        this.#frame.add((writer) => writer.raw(bytes));
        queue.bytes -= bytes.length;
        taken += 1;
      }
      queue.items.splice(0, taken);
    }
    if (this.#frame.envelopes === 0) return;
    if (!socket.write(this.#frame.take())) this.#isBlocked = true;
    if (classes.some((name) => this.#queues[name].items.length > 0)) this.#flushSoon();
  }
}

function classOf(envelope: Envelope, bytes: number): QueueClass {
  if (bytes > largeFromBytes) return 'large';
  return envelope.descriptor?.lane === 'control' ? 'control' : 'small';
}
