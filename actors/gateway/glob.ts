// Glob patterns over bytes, as KEYS and SCAN of Redis take them: `*`, `?`, `[abc]`, `[^a]`, `[a-z]`
// and `\` before a byte that stands for itself. One star is remembered at a time, so the time is
// bounded by the product of both lengths; the recursion of Redis is exponential in the stars
// (rule SE-23). Reference: redis/redis src/util.c, stringmatchlen.

const star = 0x2a;
const question = 0x3f;
const open = 0x5b;
const close = 0x5d;
const caret = 0x5e;
const backslash = 0x5c;
const dash = 0x2d;

export function matchesGlob(pattern: Uint8Array, text: Uint8Array): boolean {
  let p = 0;
  let t = 0;
  let afterStar = -1;
  let starAt = 0;
  while (t < text.length) {
    if (p < pattern.length && pattern[p] === star) {
      p += 1;
      afterStar = p;
      starAt = t;
      continue;
    }
    const next = p < pattern.length ? matchOne(pattern, p, text[t] as number) : -1;
    if (next >= 0) {
      p = next;
      t += 1;
    } else if (afterStar >= 0) {
      // The star takes one byte more.
      starAt += 1;
      t = starAt;
      p = afterStar;
    } else return false;
  }
  while (p < pattern.length && pattern[p] === star) p += 1;
  return p === pattern.length;
}

/** Matches one byte; where the pattern goes on, or -1. */
function matchOne(pattern: Uint8Array, at: number, byte: number): number {
  const first = pattern[at];
  if (first === question) return at + 1;
  if (first === open) return matchClass(pattern, at + 1, byte);
  const isEscape = first === backslash && at + 1 < pattern.length;
  const literal = isEscape ? pattern[at + 1] : first;
  return literal === byte ? at + (isEscape ? 2 : 1) : -1;
}

function matchClass(pattern: Uint8Array, start: number, byte: number): number {
  let at = start;
  const isNegated = pattern[at] === caret;
  if (isNegated) at += 1;
  let isFound = false;
  // A class without an end goes to the end of the pattern.
  while (at < pattern.length && pattern[at] !== close) {
    if (pattern[at] === backslash && at + 1 < pattern.length) at += 1;
    const low = pattern[at] as number;
    if (pattern[at + 1] === dash && at + 2 < pattern.length) {
      const high = pattern[at + 2] as number;
      isFound ||= byte >= Math.min(low, high) && byte <= Math.max(low, high);
      at += 3;
    } else {
      isFound ||= low === byte;
      at += 1;
    }
  }
  return isFound === isNegated ? -1 : Math.min(at + 1, pattern.length);
}

/** What every match starts with: the literal bytes before the first special one. */
export function globPrefix(pattern: Uint8Array): Uint8Array {
  const prefix: number[] = [];
  for (let at = 0; at < pattern.length; at += 1) {
    const byte = pattern[at] as number;
    if (byte === star || byte === question || byte === open) break;
    if (byte === backslash && at + 1 < pattern.length) at += 1;
    prefix.push(pattern[at] as number);
  }
  return Uint8Array.from(prefix);
}
