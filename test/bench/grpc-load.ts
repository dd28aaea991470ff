// gRPC for closed-loop.ts, so far as unary calls of etcd need it: HTTP/2 frames as prepared bytes,
// with one stream at a time on a connection. A client of gRPC in JavaScript takes more processor
// time for a call than the server that is measured; this takes about as much as the Redis client.
//
// No header is put into a table of HPACK, so the bytes of a request are the same on every
// connection but for the number of the stream. Answers are followed by their frames alone: a unary
// call that succeeds has a message, one that fails has none. The windows for requests are not
// counted: one small request waits at a time, and servers give back what they have read.

import { closedLoop, type Conversation, type LoadResult } from './closed-loop.ts';

export interface GrpcCall {
  /** `/package.Service/Method`. */
  readonly path: string;
  /** The encoded message. */
  readonly message: Buffer;
  /** An answer with a shorter message is an error, bytes. */
  readonly answerBytesMin: number;
}

/** A call as the two frames of its request, with places for the number of the stream. */
export interface PreparedCall {
  readonly bytes: Buffer;
  readonly dataAt: number;
  readonly answerBytesMin: number;
}

export interface GrpcLoadOptions {
  readonly ports: readonly number[];
  readonly connections: number;
  readonly requests: number;
  readonly durationMs?: number;
  readonly call: (n: number) => PreparedCall;
}

const frameHeadBytes = 9;
const messageHeadBytes = 5;
const frames = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, goAway: 7, window: 8 };
const endStream = 0x1;
const acknowledged = 0x1;
const endHeaders = 0x4;
const windowMax = 0x7fff_ffff;
const initialWindowSize = 0x4;
const defaultWindow = 65_535;
/** So much of the connection's window is used before it is given back. */
const windowStep = 1 << 30;

function frame(kind: number, flags: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(frameHeadBytes);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = kind;
  head[4] = flags;
  return Buffer.concat([head, payload]);
}

const text = (value: string): Buffer => Buffer.from([value.length, ...Buffer.from(value)]);

/** A header that stays out of the tables; `name`: its place in the static table, or its text. */
const header = (name: readonly number[] | string, value: string): Buffer =>
  Buffer.concat([
    typeof name === 'string' ? Buffer.concat([Buffer.from([0]), text(name)]) : Buffer.from(name),
    text(value),
  ]);

export function prepareCall({ path, message, answerBytesMin }: GrpcCall): PreparedCall {
  const headers = Buffer.concat([
    Buffer.from([0x83, 0x86]), // :method POST, :scheme http
    header([0x04], path),
    header([0x01], 'bench'), // :authority
    header([0x0f, 0x10], 'application/grpc'), // content-type
    header('te', 'trailers'),
  ]);
  const head = Buffer.alloc(messageHeadBytes);
  head.writeUInt32BE(message.length, 1);
  const headersFrame = frame(frames.headers, endHeaders, headers);
  const dataFrame = frame(frames.data, endStream, Buffer.concat([head, message]));
  const bytes = Buffer.concat([headersFrame, dataFrame]);
  return { bytes, dataAt: headersFrame.length, answerBytesMin };
}

/** A field of protobuf with bytes in it, shorter than 128. */
export function bytesField(field: number, value: string): Buffer {
  if (value.length > 127) throw new Error('too long for a length of one byte');
  return Buffer.concat([Buffer.from([(field << 3) | 2]), text(value)]);
}

export const trueField = (field: number): Buffer => Buffer.from([field << 3, 1]);

/** An error is an answer without a message, or with one that is too short. */
export const grpcLoad = ({ call, ...options }: GrpcLoadOptions): Promise<LoadResult> =>
  closedLoop({ ...options, converse: (send) => new GrpcConversation(call, send) });

function openingBytes(): Buffer {
  const settings = Buffer.alloc(6);
  settings.writeUInt16BE(initialWindowSize, 0);
  settings.writeUInt32BE(windowMax, 2);
  return Buffer.concat([
    Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
    frame(frames.settings, 0, settings),
    windowUpdate(windowMax - defaultWindow),
  ]);
}

function windowUpdate(bytes: number): Buffer {
  const payload = Buffer.alloc(4);
  payload.writeUInt32BE(bytes);
  return frame(frames.window, 0, payload);
}

class GrpcConversation implements Conversation {
  readonly opening = openingBytes();
  readonly #call: (n: number) => PreparedCall;
  readonly #send: (bytes: Buffer) => void;
  #held: Buffer = Buffer.alloc(0);
  #stream = -1;
  #answerBytes = 0;
  #answerBytesMin = 0;
  #windowUsed = 0;

  constructor(call: (n: number) => PreparedCall, send: (bytes: Buffer) => void) {
    this.#call = call;
    this.#send = send;
  }

  readonly ask = (n: number): Buffer => {
    const { bytes, dataAt, answerBytesMin } = this.#call(n);
    this.#stream += 2;
    this.#answerBytes = 0;
    this.#answerBytesMin = answerBytesMin;
    const own = Buffer.from(bytes);
    own.writeUInt32BE(this.#stream, 5);
    own.writeUInt32BE(this.#stream, dataAt + 5);
    return own;
  };

  readonly feed = (chunk: Buffer): number | undefined => {
    const isOwn = this.#held.length > 0;
    let left = isOwn ? Buffer.concat([this.#held, chunk]) : chunk;
    let errors: number | undefined;
    while (left.length >= frameHeadBytes) {
      const end = frameHeadBytes + left.readUIntBE(0, 3);
      if (left.length < end) break;
      const one = left.subarray(0, end);
      left = left.subarray(end);
      errors = this.#heard(one) ?? errors;
    }
    this.#held = isOwn ? left : Buffer.from(left);
    return errors;
  };

  #heard(one: Buffer): number | undefined {
    const kind = one[3];
    const flags = one[4] as number;
    const payload = one.subarray(frameHeadBytes);
    if (kind === frames.goAway) throw new Error('the server sent GOAWAY');
    if (kind === frames.settings && (flags & acknowledged) === 0) {
      this.#send(frame(frames.settings, acknowledged, Buffer.alloc(0)));
      // The server's settings are the answer to what opens a connection.
      return this.#stream < 0 ? 0 : undefined;
    }
    if (kind === frames.ping && (flags & acknowledged) === 0)
      this.#send(frame(frames.ping, acknowledged, payload));
    if (one.readUInt32BE(5) !== this.#stream) return undefined;
    if (kind === frames.reset) return 1;
    if (kind === frames.data) this.#took(payload.length);
    if ((kind !== frames.data && kind !== frames.headers) || (flags & endStream) === 0)
      return undefined;
    const isShort = this.#answerBytes < messageHeadBytes + this.#answerBytesMin;
    return isShort ? 1 : 0;
  }

  #took(bytes: number): void {
    this.#answerBytes += bytes;
    this.#windowUsed += bytes;
    if (this.#windowUsed < windowStep) return;
    this.#send(windowUpdate(this.#windowUsed));
    this.#windowUsed = 0;
  }
}
