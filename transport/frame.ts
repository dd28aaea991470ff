// Frames on a TCP connection (TR-1): a batch of envelopes behind a checked header.
//
//   u16 magic | u8 version | u8 flags | u32 payload length | u32 raw length | u32 header CRC
//   payload | u32 payload CRC
//
// The payload is a run of u32 length + envelope; above 8 KiB it is LZ4 where that pays. Lengths are
// checked before anything is buffered for them; a bad checksum ends the connection, because
// nothing behind it can be trusted.

import { ByteReader, ByteWriter, concatBytes, crc32 } from '../runtime/bytes.ts';
import type { Lz4 } from '../runtime/environment.ts';
import { KvError } from '../runtime/errors.ts';

export const protocolVersion = 1;
const magic = 0x4b76;
const headerBytes = 16;
const crcBytes = 4;
const lz4Flag = 1;
const helloFlag = 2;
/** Payloads below this are not worth compressing. */
const compressFromBytes = 8 * 1024;
/** A frame holds at least one value of 16 MiB with its envelope. */
export const framePayloadMax = 24 * 1024 * 1024;

/** Collects envelopes and makes frames of them in one reused buffer. */
export class FrameWriter {
  readonly #lz4: Lz4;
  readonly #payload = new ByteWriter(64 * 1024);
  #envelopes = 0;

  constructor(lz4: Lz4) {
    this.#lz4 = lz4;
  }

  get envelopes(): number {
    return this.#envelopes;
  }

  get bytes(): number {
    return this.#payload.length;
  }

  /** `encode` appends one envelope; where it throws, nothing is kept of it. */
  add(encode: (writer: ByteWriter) => void): void {
    const at = this.#payload.reserve(4);
    try {
      encode(this.#payload);
    } catch (error) {
      this.#payload.truncate(at);
      throw error;
    }
    this.#payload.setU32(at, this.#payload.length - at - 4);
    this.#envelopes += 1;
  }

  /** The frame of all that was added, in memory of its own; the writer is empty after it. */
  take(): Uint8Array {
    const raw = this.#payload.view();
    const packed = raw.length >= compressFromBytes ? this.#lz4.compress(raw) : raw;
    const isPacked = packed.length < raw.length * 0.9;
    const frame = frameOf(isPacked ? packed : raw, raw.length, isPacked ? lz4Flag : 0);
    this.#payload.reset();
    this.#envelopes = 0;
    return frame;
  }
}

/** The frame of a handshake: plain bytes, no envelopes. */
export function helloFrame(hello: Uint8Array): Uint8Array {
  return frameOf(hello, hello.length, helloFlag);
}

function frameOf(payload: Uint8Array, rawLength: number, flags: number): Uint8Array {
  const frame = new Uint8Array(headerBytes + payload.length + crcBytes);
  const view = new DataView(frame.buffer);
  view.setUint16(0, magic, true);
  view.setUint8(2, protocolVersion);
  view.setUint8(3, flags);
  view.setUint32(4, payload.length, true);
  view.setUint32(8, rawLength, true);
  view.setUint32(12, crc32(frame.subarray(0, 12)), true);
  frame.set(payload, headerBytes);
  view.setUint32(headerBytes + payload.length, crc32(payload), true);
  return frame;
}

export interface FrameListener {
  readonly hello: (bytes: Uint8Array) => void;
  /** One envelope: a view that is valid during the call. */
  readonly envelope: (bytes: Uint8Array) => void;
}

/** Finds frames in a stream of chunks. BAD_REQUEST: the connection has to end. */
export class FrameReader {
  readonly #lz4: Lz4;
  readonly #listener: FrameListener;
  #chunks: Uint8Array[] = [];
  #buffered = 0;
  /** Bytes that make the next step possible: a header, or a whole frame. */
  #needed = headerBytes;

  constructor(lz4: Lz4, listener: FrameListener) {
    this.#lz4 = lz4;
    this.#listener = listener;
  }

  feed(chunk: Uint8Array): void {
    this.#chunks.push(chunk);
    this.#buffered += chunk.length;
    if (this.#buffered < this.#needed) return;
    const bytes = this.#chunks.length === 1 ? chunk : concatBytes(this.#chunks);
    let at = 0;
    this.#needed = headerBytes;
    while (bytes.length - at >= headerBytes) {
      const length = frameLength(bytes, at);
      if (bytes.length - at < length) {
        this.#needed = length;
        break;
      }
      this.#read(bytes.subarray(at, at + length));
      at += length;
    }
    const rest = bytes.subarray(at);
    this.#chunks = rest.length === 0 ? [] : [rest];
    this.#buffered = rest.length;
  }

  #read(frame: Uint8Array): void {
    const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
    const flags = view.getUint8(3);
    const rawLength = view.getUint32(8, true);
    const payload = frame.subarray(headerBytes, frame.length - crcBytes);
    if (crc32(payload) !== view.getUint32(frame.length - crcBytes, true))
      throw bad('payload fails its checksum');
    if ((flags & helloFlag) !== 0) return this.#listener.hello(payload);
    // A copy of what LZ4 gives: handling an envelope may compress something else.
    const raw =
      (flags & lz4Flag) === 0 ? payload : this.#lz4.decompress(payload, rawLength).slice();
    const reader = new ByteReader(raw);
    while (reader.left > 0) this.#listener.envelope(reader.rawView(reader.u32()));
  }
}

/** Length of the frame at `at`, whose header is there; its limits are checked. */
function frameLength(bytes: Uint8Array, at: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, headerBytes);
  if (view.getUint16(0, true) !== magic) throw bad('no frame of kvd');
  if (view.getUint32(12, true) !== crc32(bytes.subarray(at, at + 12)))
    throw bad('header fails its checksum');
  const version = view.getUint8(2);
  if (version !== protocolVersion)
    throw bad(`protocol version ${version}; this program speaks ${protocolVersion}`);
  const length = view.getUint32(4, true);
  const rawLength = view.getUint32(8, true);
  if (length > framePayloadMax || rawLength > framePayloadMax)
    throw bad(`a frame of ${Math.max(length, rawLength)} bytes; at most ${framePayloadMax}`);
  return headerBytes + length + crcBytes;
}

const bad = (detail: string): KvError => new KvError('BAD_REQUEST', { detail: `frame: ${detail}` });
