// Compiles the modules of all codecs: some milliseconds, once per process. The compiled modules may be
// handed to other threads; each of them makes its own instances (runtime/block-codecs.ts).

import type { CodecModules } from '../block-codecs.ts';
import { loadLz4Module } from './lz4-module.ts';
import { loadZstdModule } from './zstd-module.ts';

export function loadCodecModules(): CodecModules {
  return { lz4: loadLz4Module(), zstd: loadZstdModule() };
}
