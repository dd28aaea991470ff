// Glob patterns: what they match is what Redis matches, and no pattern takes long.

import { expect } from 'chai';
import fc from 'fast-check';
import { Glob, globBytesMax } from '../../actors/gateway/glob.ts';
import { KvError } from '../../runtime/errors.ts';

const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'latin1'));

/** stringmatchlen of redis/redis src/util.c, line by line: `[p, t]` of where both stand. */
function redisMatches(pattern: string, text: string, start = 0, from = 0): boolean {
  let p = start;
  let t = from;
  while (p < pattern.length && t < text.length) {
    switch (pattern[p]) {
      case '*':
        return redisStar(pattern, text, p + 1, t);
      case '?':
        break;
      case '[': {
        const found = redisClass(pattern, p + 1, text.charCodeAt(t));
        if (!found.isMatch) return false;
        p = found.end;
        break;
      }
      default:
        if (pattern[p] === '\\' && p + 1 < pattern.length) p += 1;
        if (pattern[p] !== text[t]) return false;
    }
    t += 1;
    p += 1;
  }
  if (t === text.length) while (pattern[p] === '*') p += 1;
  return p === pattern.length && t === text.length;
}

/** What follows a star, at any place of the text; Redis tries the empty rest, too. */
function redisStar(pattern: string, text: string, start: number, from: number): boolean {
  for (let t = from; t <= text.length; t += 1)
    if (redisMatches(pattern, text, start, t)) return true;
  return false;
}

/** Of the class from `start` on: whether it takes the byte, and where its last byte is. */
function redisClass(
  pattern: string,
  start: number,
  byte: number,
): { isMatch: boolean; end: number } {
  let p = start;
  const isNegated = pattern[p] === '^';
  if (isNegated) p += 1;
  let isMatch = false;
  for (; ; p += 1) {
    if (pattern[p] === '\\' && p + 1 < pattern.length) {
      p += 1;
      if (pattern.charCodeAt(p) === byte) isMatch = true;
    } else if (pattern[p] === ']') break;
    else if (p === pattern.length) {
      p -= 1;
      break;
    } else if (p + 2 < pattern.length && pattern[p + 1] === '-') {
      const ends = [pattern.charCodeAt(p), pattern.charCodeAt(p + 2)];
      p += 2;
      if (byte >= Math.min(...ends) && byte <= Math.max(...ends)) isMatch = true;
    } else if (pattern.charCodeAt(p) === byte) isMatch = true;
  }
  return { isMatch: isMatch !== isNegated, end: p };
}

describe('glob', () => {
  it('glob: matches what Redis matches, in everything', () => {
    const pattern = fc.string({
      unit: fc.constantFrom(...Array.from('ab*?[]^-\\c\xff')),
      maxLength: 14,
    });
    const text = fc.string({ unit: fc.constantFrom(...Array.from('ab^-]\\c\xff')), maxLength: 10 });
    fc.assert(
      fc.property(pattern, text, (wanted, found) => {
        const isMatch = new Glob(bytes(wanted)).matches(bytes(found));
        expect(isMatch).to.equal(redisMatches(wanted, found));
      }),
      { numRuns: 30_000 },
    );
  });

  for (const length of [31, 32, 33, 64, 1000])
    it(`glob: parts of the state meet (length=${length})`, () => {
      const text = 'ab'.repeat(length).slice(0, length);
      for (const pattern of [text, '?'.repeat(length), `*${text.slice(1)}`, `${text.slice(3)}*`]) {
        const glob = new Glob(bytes(pattern));
        expect(glob.matches(bytes(text))).to.equal(redisMatches(pattern, text));
        expect(glob.matches(bytes(`${text}a`))).to.equal(redisMatches(pattern, `${text}a`));
        expect(glob.matches(bytes(`c${text}`))).to.equal(redisMatches(pattern, `c${text}`));
      }
    });

  it('glob: an escaped byte of a class begins no range', () => {
    const glob = new Glob(bytes('[\\a-c]'));
    expect(['a', '-', 'c', 'b'].map((text) => glob.matches(bytes(text)))).to.deep.equal([
      ...[true, true, true, false],
    ]);
  });

  it('glob: the prefix is what is literal up to the first special byte', () => {
    for (const [pattern, prefix] of [
      ['ab*c', 'ab'],
      ['a\\*b?', 'a*b'],
      ['[a]', ''],
      ['a\\', 'a\\'],
    ] as const)
      expect(Buffer.from(new Glob(bytes(pattern)).prefix).toString()).to.equal(prefix);
  });

  it(`glob: a pattern up to the limit, not one byte more (limit=${globBytesMax})`, () => {
    expect(new Glob(bytes('?'.repeat(globBytesMax))).matches(bytes('a'))).to.equal(false);
    expect(() => new Glob(bytes('?'.repeat(globBytesMax + 1)))).to.throw(KvError);
  });

  // 1,000 keys of 1 KiB, as a page of SCAN has them: what tries anything again takes many seconds.
  for (const [name, pattern] of [
    ['stars', '*a'.repeat(511) + 'b'],
    ['one star before a long literal', `*${'a'.repeat(511)}b`],
    ['a class without an end', `*[${'b'.repeat(1022)}`],
    ['classes', `*${'[^b-z]'.repeat(170)}b`],
  ] as const)
    it(`glob: a page of long keys is matched in no time (${name})`, () => {
      const glob = new Glob(bytes(pattern));
      const key = bytes('a'.repeat(1024));
      const startMs = process.cpuUsage().user;
      for (let i = 0; i < 1000; i += 1) expect(glob.matches(key)).to.equal(false);
      // 33 million steps.
      expect((process.cpuUsage().user - startMs) / 1000).to.be.lessThan(2000);
    });
});
