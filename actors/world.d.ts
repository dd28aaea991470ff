// All that the actors' compilation knows of the platform: pure functions that the runtime wraps.
// Everything else of Node (timers, process, Buffer, fetch) does not exist in that compilation, so
// an actor that reaches for it fails to compile (tsconfig.actors.json).

declare module 'node:zlib' {
  export function crc32(data: Uint8Array, value?: number): number;
}
