// Places on the ring. Tokens decide where data lies, so they are pinned: a change loses every key.

import { expect } from 'chai';
import fc from 'fast-check';
import { utf8 } from '../../runtime/bytes.ts';
import { fingerprint32, fingerprint32Text } from '../../runtime/hash.ts';
import { storageKey } from '../../actors/model/record.ts';
import { hashKey, shardOf } from '../../actors/model/token.ts';

const hashesOf = (key: string, namespace = 1): { token: number; hash: number } =>
  hashKey(storageKey(namespace, utf8.encode(key)));
const tokenOf = (key: string): number => hashesOf(key).token;

describe('token', () => {
  for (const [text, expected] of [
    // The first is farmhash's published value of the empty string, 0xdc56d17a.
    ['', 0xdc56_d17a],
    ['a', 1_016_544_589],
    ['hello', 2_039_911_270],
    ['0123456789abcdef', 1_565_948_617],
    ['x'.repeat(24), 2_427_577_865],
    ['x'.repeat(25), 35_736_989],
    ['y'.repeat(1000), 3_785_551_098],
    ['ключ', 2_684_313_901],
  ] as const)
    it(`token: the fingerprint stays for ever (text=${text.slice(0, 16)}, bytes=${utf8.encode(text).length})`, () => {
      expect(fingerprint32(utf8.encode(text))).to.equal(expected);
      expect(fingerprint32Text(text)).to.equal(expected);
    });

  it('token: bytes of any length hash as the same text', () => {
    for (let length = 0; length <= 300; length += 1) {
      const text = 'k'.repeat(length);
      expect(fingerprint32(utf8.encode(text)), `${length}`).to.equal(fingerprint32Text(text));
    }
  });

  it('token: a view into a larger buffer hashes as its own bytes', () => {
    const bytes = utf8.encode('..hello..');
    expect(fingerprint32(bytes.subarray(2, 7))).to.equal(2_039_911_270);
  });

  for (const [namespace, expected] of [
    [0, 365_260_570],
    [1, 1_311_738_243],
    [0xffff_ffff, 60_840_639],
  ] as const)
    it(`token: the namespace is part of it (namespace=${namespace})`, () => {
      expect(hashesOf('user:1', namespace)).to.deep.equal({ token: expected, hash: expected });
    });

  it('token: keys with one hash tag live together, with hashes of their own', () => {
    expect(hashesOf('{user}:1')).to.deep.equal({ token: 3_492_307_537, hash: 1_120_643_701 });
    expect(hashesOf('{user}:2')).to.deep.equal({ token: 3_492_307_537, hash: 2_764_054_285 });
    expect(hashesOf('user')).to.deep.equal({ token: 3_492_307_537, hash: 3_492_307_537 });
    expect(hashesOf('{user}:1', 2).token).to.not.equal(3_492_307_537);
  });

  for (const [key, alike] of [
    ['a}{b}', 'b'],
    ['}{a}', 'a'],
    ['{a}{b}', 'a'],
    ['{{a}}', '{{a}'],
    ['x{a}y}z', 'a'],
  ] as const)
    it(`token: the tag stands between the first brace and the next closing one (key=${key})`, () => {
      expect(tokenOf(key)).to.equal(tokenOf(alike));
      expect(hashesOf(key).hash).to.not.equal(hashesOf(alike).hash);
    });

  it('token: of nested braces the tag is what follows the first, the second brace included', () => {
    expect(tokenOf('{{a}}')).to.equal(2_453_415_208);
    // No tag in this one: the token is the hash of the whole key, which is that same text.
    expect(hashesOf('{a')).to.deep.equal({ token: 2_453_415_208, hash: 2_453_415_208 });
  });

  for (const key of ['{}', '{}{user}', '{a', 'a}', '}{', 'foo{}{bar}', 'plain', '{'])
    it(`token: without a tag the whole key counts (key=${key})`, () => {
      const { token, hash } = hashesOf(key);
      expect(token).to.equal(hash);
      expect(hash).to.equal(fingerprint32(storageKey(1, utf8.encode(key))));
    });

  it('token: braces in the namespace bytes are no tag (namespace=0x7b617d7d)', () => {
    const { token, hash } = hashesOf('key', 0x7b61_7d7d);
    expect(token).to.equal(hash);
  });

  it('token: each token has one shard below their number', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 2 ** 32 - 1 }),
        fc.integer({ min: 1, max: 64 }),
        (t, n) => {
          expect(shardOf(t, n)).to.be.within(0, n - 1);
          expect((t - shardOf(t, n)) % n).to.equal(0);
        },
      ),
    );
  });
});
