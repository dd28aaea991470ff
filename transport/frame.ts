// Frames on a TCP connection (TR-1): a batch of envelopes behind a checked header.
//
//   u16 magic | u8 version | u8 flags | u32 payload length | u32 raw length | u32 header CRC
//   payload | u32 payload CRC
//
// The payload is a run of u32 length + envelope; above 8 KiB it is LZ4 where that pays: after
// payloads that did not shrink, more and more frames go plain before the next try. Lengths are
// checked before anything is buffered for them; a bad checksum ends the connection, because
// nothing behind it can be trusted. LZ4 never sees bytes that fail their checksum.
//
// A probe has no payload and is answered at once by an empty frame; whoever does not know probes
// takes both for batches of no envelopes.

import { ByteReader, ByteWriter, concatBytes, crc32 } from '../runtime/bytes.ts';
import type { Lz4 } from '../runtime/environment.ts';
import { KvError } from '../runtime/errors.ts';

export const protocolVersion = 1;
const magic = 0x4b76;
const headerBytes = 16;
const crcBytes = 4;
const nothing = new Uint8Array(0);
const lz4Flag = 1;
const helloFlag = 2;
const probeFlag = 4;
/** Payloads below this are not worth compressing. */
const compressFromBytes = 8 * 1024;
/** A frame holds at least one value of 16 MiB with its envelope. */
export const framePayloadMax = 24 * 1024 * 1024;
/** A handshake is far below; until it is over, a stranger gets no more memory than this. */
export const helloBytesMax = 4 * 1024;
/** Frames without compression after one that did not shrink; doubled each time. */
const plainFramesMax = 63;
/** A buffer that grew beyond this for one large message is not kept. */
export const keptBufferBytes = 1024 * 1024;

/** Collects envelopes in one reused buffer and makes frames of them. */
export class FrameWriter {
  readonly #lz4: Lz4;
  #payload = new ByteWriter(64 * 1024);
  #envelopes = 0;
  #plainFrames = 0;
  #plainFramesLeft = 0;

  constructor(lz4: Lz4) {
    this.#lz4 = lz4;
  }

  get envelopes(): number {
    return this.#envelopes;
  }

  get bytes(): number {
    return this.#payload.length;
  }

  /** Appends a copy of one envelope. */
  add(envelope: Uint8Array): void {
    this.#payload.bytes(envelope);
    this.#envelopes += 1;
  }

  /** The frame of all that was added, in memory of its own; the writer is empty after it. */
  take(): Uint8Array {
    const raw = this.#payload.view();
    const packed = this.#compressed(raw);
    const frame = frameOf(packed ?? raw, raw.length, packed === undefined ? 0 : lz4Flag);
    if (raw.length > keptBufferBytes) this.#payload = new ByteWriter(64 * 1024);
    else this.#payload.reset();
    this.#envelopes = 0;
    return frame;
  }

  /** Undefined where it is not tried or does not pay. */
  #compressed(raw: Uint8Array): Uint8Array | undefined {
    if (raw.length < compressFromBytes) return undefined;
    if (this.#plainFramesLeft > 0) {
      this.#plainFramesLeft -= 1;
      return undefined;
    }
    const packed = this.#lz4.compress(raw);
    const pays = packed.length < raw.length * 0.9;
    this.#plainFrames = pays ? 0 : Math.min(plainFramesMax, this.#plainFrames * 2 + 1);
    this.#plainFramesLeft = this.#plainFrames;
    return pays ? packed : undefined;
  }
}

/** The frame of a handshake: plain bytes, no envelopes. */
export function helloFrame(hello: Uint8Array): Uint8Array {
  return frameOf(hello, hello.length, helloFlag);
}

/** Asks the transport of the other end for an empty frame. */
export const probeFrame = (): Uint8Array => frameOf(nothing, 0, probeFlag);

/** A sign of life: the answer to a probe. */
export const emptyFrame = (): Uint8Array => frameOf(nothing, 0, 0);

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
  readonly probe: () => void;
}

/** Finds frames in a stream of chunks. BAD_REQUEST: the connection has to end. */
export class FrameReader {
  readonly #lz4: Lz4;
  readonly #listener: FrameListener;
  #chunks: Uint8Array[] = [];
  #buffered = 0;
  /** Bytes that make the next step possible: a header, or a whole frame. */
  #needed = headerBytes;
  #payloadMax = helloBytesMax;

  constructor(lz4: Lz4, listener: FrameListener) {
    this.#lz4 = lz4;
    this.#listener = listener;
  }

  /** The handshake is over: from now on frames may be large. */
  trust(): void {
    this.#payloadMax = framePayloadMax;
  }

  /** Calls the listener for all that `chunk` completes. Nothing may be fed after an error. */
  feed(chunk: Uint8Array): void {
    this.#chunks.push(chunk);
    this.#buffered += chunk.length;
    if (this.#buffered < this.#needed) return;
    const bytes = this.#chunks.length === 1 ? chunk : concatBytes(this.#chunks);
    let at = 0;
    this.#needed = headerBytes;
    while (bytes.length - at >= headerBytes) {
      const length = frameLength(bytes, at, this.#payloadMax);
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
    if ((flags & probeFlag) !== 0) return this.#listener.probe();
    const raw = (flags & lz4Flag) === 0 ? payload : this.#lz4.decompress(payload, rawLength);
    const reader = new ByteReader(raw);
    while (reader.left > 0) this.#listener.envelope(reader.rawView(reader.u32()));
  }
}

/** Length of the frame at `at`, whose header is there; its limits are checked. */
function frameLength(bytes: Uint8Array, at: number, payloadMax: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, headerBytes);
  if (view.getUint16(0, true) !== magic) throw bad('no frame of kvd');
  if (view.getUint32(12, true) !== crc32(bytes.subarray(at, at + 12)))
    throw bad('header fails its checksum');
  const version = view.getUint8(2);
  if (version !== protocolVersion)
    throw bad(`protocol version ${version}; this program speaks ${protocolVersion}`);
  const length = view.getUint32(4, true);
  const rawLength = view.getUint32(8, true);
  if (length > payloadMax || rawLength > payloadMax)
    throw bad(`a frame of ${Math.max(length, rawLength)} bytes; at most ${payloadMax}`);
  return headerBytes + length + crcBytes;
}

const bad = (detail: string): KvError => new KvError('BAD_REQUEST', { detail: `frame: ${detail}` });
