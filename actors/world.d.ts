// All that the actors' compilation knows of the platform: pure functions that the runtime wraps.
// Everything else of Node (timers, process, Buffer, fetch) does not exist in that compilation, so
// an actor that reaches for it fails to compile (tsconfig.actors.json).

declare module 'node:crypto' {
  interface Hmac {
    update(data: Uint8Array): Hmac;
    digest(): Uint8Array;
  }
  interface Hash {
    update(data: string): Hash;
    digest(): Uint8Array;
  }
  export function createHash(algorithm: 'sha256'): Hash;
  export function createHmac(algorithm: 'sha256', key: string): Hmac;
  export function timingSafeEqual(a: Uint8Array, b: Uint8Array): boolean;
}

declare module 'node:zlib' {
  export function crc32(data: Uint8Array, value?: number): number;
}
