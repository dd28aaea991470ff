// The codecs of table blocks, made from their compiled modules: once per thread. The modules are
// compiled once per process (runtime/host/codec-modules.ts) and may be sent to other threads.

import type { BlockCodecs } from './environment.ts';
import { createLz4, type WasmModule } from './lz4.ts';
import { createZstd } from './zstd.ts';

/** The compiled modules of all codecs. */
export interface CodecModules {
  readonly lz4: WasmModule;
  readonly zstd: WasmModule;
}

/** Codecs for one thread. */
export function createCodecs({ lz4, zstd }: CodecModules): BlockCodecs {
  return { lz4: createLz4(lz4), zstd: createZstd(zstd) };
}
