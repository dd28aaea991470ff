// Zstandard blocks by the WebAssembly module of @bokuweb/zstd-wasm (libzstd compiled as it is),
// called directly: the JavaScript half of the package loads asynchronously, makes a context for each
// call and trusts the length that a frame claims.
//
// A block here is one frame; the caller stores its length and both are under the caller's checksum.
// Invariants: no output is larger than the caller's length, whatever the frame says; after any
// failure, and after a block that made the memory grow beyond a bound, the instance is thrown away,
// because WebAssembly memory never shrinks and a trap leaves it in an unknown state. An instance is
// made when it is first used: most threads never meet such a block.
// Format: RFC 8878. Functions: https://facebook.github.io/zstd/zstd_manual.html

import { ownBytes, type TakeBytes } from './bytes.ts';
import type { BlockCodec } from './environment.ts';
import { assert, KvError } from './errors.ts';
import type { WasmModule } from './lz4.ts';

/** Where from and where to. */
type Call = [context: number, target: number, capacity: number, source: number, length: number];
type NoDictionary = [dictionary: 0, dictionaryLength: 0];

/** The exports by the short names that the linker gave them; runtime/host/zstd-module.ts checks them. */
interface Exports {
  readonly f: { readonly buffer: ArrayBuffer; readonly grow: (pages: number) => number };
  /** Runs what C runs before `main`. */
  readonly g: () => void;
  /** ZSTD_isError: not 0 where a result is an error. */
  readonly h: (result: number) => number;
  /** ZSTD_createCCtx, ZSTD_createDCtx. */
  readonly j: () => number;
  readonly n: () => number;
  /** ZSTD_compress_usingDict, without a dictionary. */
  readonly l: (...call: [...Call, ...NoDictionary, level: number]) => number;
  /** ZSTD_decompress_usingDict, without a dictionary. */
  readonly q: (...call: [...Call, ...NoDictionary]) => number;
  readonly s: (length: number) => number;
  readonly t: (at: number) => void;
}

/** Its memory with the buffers and contexts that are used again and again. */
interface Instance {
  readonly exports: Exports;
  readonly compressor: number;
  readonly decompressor: number;
  buffers: Buffers;
}

interface Buffers {
  readonly source: number;
  readonly target: number;
  readonly bytes: number;
}

declare const WebAssembly: {
  readonly Instance: new (
    module: WasmModule,
    imports: Readonly<Record<string, Readonly<Record<string, unknown>>>>,
  ) => { readonly exports: unknown };
};

/** Longest input of `compress` and output of `decompress`, bytes: a block with one large record. */
export const zstdBytesMax = 32 * 1024 * 1024;
/** Of 1 to 22. Higher ones pack blocks of 16 KiB no better and cost three times as much and more. */
const level = 1;
/** An instance whose memory grew beyond this is replaced before its next use. */
const memoryBytesMax = 32 * 1024 * 1024;
const bufferBytesMin = 64 * 1024;
const pageBytes = 64 * 1024;

/** One codec; for one thread. `module` comes from runtime/host/zstd-module.ts. */
export function createZstd(module: WasmModule): BlockCodec {
  return new WasmZstd(module);
}

class WasmZstd implements BlockCodec {
  readonly #module: WasmModule;
  #instance: Instance | undefined;

  constructor(module: WasmModule) {
    this.#module = module;
  }

  readonly compress = (bytes: Uint8Array): Uint8Array => {
    assert(bytes.length <= zstdBytesMax, `a block of ${bytes.length} bytes is too long for Zstd`);
    const { exports, compressor, buffers } = this.#ready(frameBytesMax(bytes.length));
    const { source, target } = buffers;
    new Uint8Array(exports.f.buffer).set(bytes, source);
    const length = exports.l(compressor, target, buffers.bytes, source, bytes.length, 0, 0, level);
    assert(exports.h(length) === 0, 'Zstd refused to compress');
    return new Uint8Array(exports.f.buffer, target, length);
  };

  readonly decompress: BlockCodec['decompress'] = (block, length, take = ownBytes) => {
    if (!Number.isInteger(length) || length < 0 || length > zstdBytesMax)
      throw corrupt(`a length of ${length} bytes`);
    if (block.length > frameBytesMax(length))
      throw corrupt(`${block.length} bytes for a content of ${length}`);
    try {
      return this.#decompress(block, length, take);
    } catch (error) {
      this.#instance = undefined;
      throw error instanceof KvError ? error : corrupt('not a Zstd frame');
    }
  };

  #decompress(block: Uint8Array, length: number, take: TakeBytes): Uint8Array {
    const { exports, decompressor, buffers } = this.#ready(frameBytesMax(length));
    const { source, target } = buffers;
    new Uint8Array(exports.f.buffer).set(block, source);
    const found = exports.q(decompressor, target, length, source, block.length, 0, 0);
    if (exports.h(found) !== 0) throw corrupt('not a Zstd frame');
    if (found !== length) throw corrupt(`${found} bytes instead of ${length}`);
    const content = take(length);
    content.set(new Uint8Array(exports.f.buffer, target, length));
    return content;
  }

  /** An instance with buffers of at least `bytes` each. */
  #ready(bytes: number): Instance {
    let instance = this.#instance;
    if (instance === undefined || instance.exports.f.buffer.byteLength > memoryBytesMax) {
      instance = instantiate(this.#module);
      this.#instance = instance;
    }
    if (instance.buffers.bytes < bytes) {
      const { exports, buffers } = instance;
      exports.t(buffers.source);
      exports.t(buffers.target);
      instance.buffers = allocate(exports, bytes);
    }
    return instance;
  }
}

function instantiate(module: WasmModule): Instance {
  const made: { exports?: Exports } = {};
  /** 1 where the memory has at least so many bytes afterwards. */
  const grow = (bytes: number): number => {
    const { exports } = made;
    if (exports === undefined) return 0;
    const missing = Math.ceil(((bytes >>> 0) - exports.f.buffer.byteLength) / pageBytes);
    try {
      exports.f.grow(Math.max(missing, 0));
      return 1;
    } catch {
      return 0;
    }
  };
  const abort = (): never => {
    throw corrupt('the Zstd module gave up');
  };
  // Exit, keep-alive, abort, timer, memory. It has no threads and no timers that would use them.
  const imports = { a: { a: abort, b: abort, c: abort, d: abort, e: grow } };
  const exports = new WebAssembly.Instance(module, imports).exports as Exports;
  made.exports = exports;
  exports.g();
  const [compressor, decompressor] = [exports.j(), exports.n()];
  assert(compressor !== 0 && decompressor !== 0, 'Zstd has no memory for its contexts');
  return { exports, compressor, decompressor, buffers: allocate(exports, bufferBytesMin) };
}

function allocate(exports: Exports, bytes: number): Buffers {
  const buffers = { source: exports.s(bytes), target: exports.s(bytes), bytes };
  assert(buffers.source !== 0 && buffers.target !== 0, `Zstd has no memory for ${bytes} bytes`);
  return buffers;
}

/** ZSTD_compressBound: what cannot be compressed grows by that much at most. */
const frameBytesMax = (length: number): number =>
  length + (length >>> 8) + (length < 128 * 1024 ? (128 * 1024 - length) >>> 11 : 0) + 32;

const corrupt = (what: string): KvError =>
  new KvError('CORRUPT', { detail: `Zstd block: ${what}` });
