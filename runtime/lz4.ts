// LZ4 blocks by the lz4-wasm package's WebAssembly module, called directly: its JavaScript half
// does not load in Node, copies twice and trusts the length in front of a block.
//
// A block here is a plain LZ4 block without that length; the caller stores the length and both are
// under its checksum. Invariants: no length reaches the module unchecked; after any failure, and
// after a block that made its memory grow beyond a bound, the instance is thrown away, because
// WebAssembly memory never shrinks and a trap leaves it in an unknown state.
// Format: https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md

import { ownBytes, type TakeBytes } from './bytes.ts';
import type { BlockCodec, Lz4 } from './environment.ts';
import { assert, KvError } from './errors.ts';

/** A compiled `WebAssembly.Module`; it may be sent to another thread. */
export type WasmModule = object;

interface Exports {
  readonly memory: { readonly buffer: ArrayBuffer };
  readonly compress: (result: number, at: number, length: number) => void;
  readonly decompress: (result: number, at: number, length: number) => void;
  readonly __wbindgen_add_to_stack_pointer: (change: number) => number;
  readonly __wbindgen_malloc: (length: number) => number;
  readonly __wbindgen_free: (at: number, length: number) => void;
}

declare const WebAssembly: {
  readonly Instance: new (
    module: WasmModule,
    imports: Readonly<Record<string, Readonly<Record<string, unknown>>>>,
  ) => { readonly exports: unknown };
};

/** Longest input of `compress` and output of `decompress`, bytes: a block with one large record. */
export const lz4BytesMax = 32 * 1024 * 1024;
/** An instance whose memory grew beyond this is replaced before its next use. */
const memoryBytesMax = 8 * 1024 * 1024;
/** In front of each block, inside the module only: the length of its content, little-endian. */
const prefixBytes = 4;
const resultBytes = 16;

interface Memory {
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/** One instance; for one thread. `module` comes from runtime/host/lz4-module.ts. */
export function createLz4(module: WasmModule): Lz4 {
  return new WasmLz4(module);
}

class WasmLz4 implements Lz4 {
  readonly #module: WasmModule;
  #exports: Exports | undefined;
  /** The output that the caller may still look at. */
  #outputAt = 0;
  #outputLength = 0;
  #memory: Memory | undefined;

  constructor(module: WasmModule) {
    this.#module = module;
    this.#exports = instantiate(module);
  }

  readonly compress = (bytes: Uint8Array): Uint8Array => {
    assert(bytes.length <= lz4BytesMax, `a block of ${bytes.length} bytes is too long for LZ4`);
    const exports = this.#ready();
    const at = exports.__wbindgen_malloc(bytes.length);
    new Uint8Array(exports.memory.buffer).set(bytes, at);
    const [outputAt, length, , isError] = this.#call(exports, 'compress', at, bytes.length);
    assert(isError === 0, 'LZ4 refused to compress');
    return new Uint8Array(exports.memory.buffer, outputAt + prefixBytes, length - prefixBytes);
  };

  readonly decompress: BlockCodec['decompress'] = (block, length, take = ownBytes) => {
    if (!Number.isInteger(length) || length < 0 || length > lz4BytesMax)
      throw corrupt(`a length of ${length} bytes`);
    if (block.length > blockBytesMax(length))
      throw corrupt(`${block.length} bytes for a content of ${length}`);
    try {
      return this.#decompress(block, length, take);
    } catch (error) {
      this.#exports = undefined;
      throw error instanceof KvError ? error : corrupt('not an LZ4 block');
    }
  };

  #decompress(block: Uint8Array, length: number, take: TakeBytes): Uint8Array {
    const exports = this.#ready();
    const inputLength = prefixBytes + block.length;
    const at = exports.__wbindgen_malloc(inputLength);
    const { bytes, view } = this.#memoryOf(exports);
    view.setUint32(at, length, true);
    bytes.set(block, at + prefixBytes);
    const [outputAt, outputLength, , isError] = this.#call(exports, 'decompress', at, inputLength);
    if (isError !== 0) throw corrupt('not an LZ4 block');
    if (outputLength !== length) throw corrupt(`${outputLength} bytes instead of ${length}`);
    const content = take(length);
    content.set(new Uint8Array(exports.memory.buffer, outputAt, length));
    return content;
  }

  /** Views of all of its memory: made anew when it has grown. */
  #memoryOf({ memory }: Exports): Memory {
    if (this.#memory?.bytes.buffer !== memory.buffer)
      this.#memory = { bytes: new Uint8Array(memory.buffer), view: new DataView(memory.buffer) };
    return this.#memory;
  }

  /** [address, length, error, isError] of the output. */
  #call(
    exports: Exports,
    name: 'compress' | 'decompress',
    at: number,
    length: number,
  ): readonly [number, number, number, number] {
    const result = exports.__wbindgen_add_to_stack_pointer(-resultBytes);
    // `compress` cannot fail and leaves the last two words as they are.
    this.#memoryOf(exports).bytes.fill(0, result, result + resultBytes);
    exports[name](result, at, length);
    const { view } = this.#memoryOf(exports);
    const outputAt = view.getUint32(result, true);
    const outputLength = view.getUint32(result + 4, true);
    const error = view.getUint32(result + 8, true);
    const isError = view.getUint32(result + 12, true);
    exports.__wbindgen_add_to_stack_pointer(resultBytes);
    if (isError === 0) {
      this.#outputAt = outputAt;
      this.#outputLength = outputLength;
    }
    return [outputAt, outputLength, error, isError];
  }

  /** An instance with nothing left over from the call before. */
  #ready(): Exports {
    let exports = this.#exports;
    if (exports === undefined || exports.memory.buffer.byteLength > memoryBytesMax) {
      exports = instantiate(this.#module);
      this.#exports = exports;
    } else if (this.#outputLength > 0) exports.__wbindgen_free(this.#outputAt, this.#outputLength);
    this.#outputLength = 0;
    return exports;
  }
}

function instantiate(module: WasmModule): Exports {
  // The module's only import turns an error text into an object; a call's failure says enough.
  const imports = { './lz4_wasm_bg.js': { __wbindgen_string_new: () => 0 } };
  return new WebAssembly.Instance(module, imports).exports as Exports;
}

/** Content that cannot be compressed grows by one byte in 255 and a few. */
const blockBytesMax = (length: number): number => length + Math.ceil(length / 255) + 16;

const corrupt = (what: string): KvError => new KvError('CORRUPT', { detail: `LZ4 block: ${what}` });
