// Finds and compiles the Zstandard module of @bokuweb/zstd-wasm. Its .wasm file is read as what it
// is: the package's own loader is asynchronous and has one instance per thread that never shrinks.
// The compiled module may be handed to other threads (runtime/zstd.ts).
//
// The linker named the exports f, g, h and so on: another build may name them otherwise, so the
// package is pinned to one version and the names are compared.

import { readFileSync } from 'node:fs';
import { assert } from '../errors.ts';
import type { WasmModule } from '../lz4.ts';

declare const WebAssembly: {
  readonly Module: {
    new (bytes: Uint8Array): WasmModule;
    readonly exports: (module: WasmModule) => readonly { readonly name: string }[];
  };
};

const knownExports = 'f g h i j k l m n o p q r s t u v';

/** Reads and compiles the module: some milliseconds, once per process. */
export function loadZstdModule(): WasmModule {
  const main = import.meta.resolve('@bokuweb/zstd-wasm');
  const module = new WebAssembly.Module(readFileSync(new URL('zstd.wasm', main)));
  const names = WebAssembly.Module.exports(module).map(({ name }) => name);
  assert(names.join(' ') === knownExports, `a Zstd module of another build: ${names.join(' ')}`);
  return module;
}
