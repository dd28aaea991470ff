// Finds and compiles lz4-wasm's module. Importing the package fails in Node (it is made for
// bundlers), so its .wasm file is read as what it is. The compiled module may be handed to other
// threads; each of them makes its own instance (runtime/lz4.ts).

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { WasmModule } from '../lz4.ts';

declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => WasmModule;
};

/** Reads and compiles the module: some milliseconds, once per process. */
export function loadLz4Module(): WasmModule {
  const url = import.meta.resolve('lz4-wasm/lz4_wasm_bg.wasm');
  return new WebAssembly.Module(readFileSync(fileURLToPath(url)));
}
