// The bounded msgpack decoder: what actors may send comes back equal, and no bytes whatever crash
// it, hang it, make it allocate beyond the input, or give an object another prototype.

import { expect } from 'chai';
import fc from 'fast-check';
import { BugError, KvError } from '../../runtime/errors.ts';
import { decodeMsgpack, encodeMsgpack } from '../../transport/msgpack.ts';
import { codeThrownBy } from '../kit.ts';
import { noise } from '../kit-transport.ts';

/** -0 travels as 0, and what looks like an integer has to be a safe one. */
function mayTravel(number: number): boolean {
  return !Object.is(number, -0) && (!Number.isInteger(number) || Number.isSafeInteger(number));
}

/** Plain data as messages hold it. */
const name = fc.string({ unit: 'grapheme', maxLength: 8 }).filter((text) => text !== '__proto__');
const leaf = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 40 }),
  fc.maxSafeInteger(),
  fc.double({ noNaN: true }).map((number) => (mayTravel(number) ? number : 0.5)),
  fc.boolean(),
  fc.constant(null),
  fc.uint8Array({ maxLength: 300 }),
);
const { message } = fc.letrec<{ message: unknown }>((tie) => ({
  message: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    leaf,
    fc.array(tie('message'), { maxLength: 6 }),
    fc.dictionary(name, tie('message'), { maxKeys: 6, noNullPrototype: true }),
  ),
}));

/** Decodes, or refuses with BAD_REQUEST; anything else is an error. */
function decodeOrRefuse(bytes: Uint8Array): unknown {
  try {
    return decodeMsgpack(bytes);
  } catch (error) {
    if (error instanceof KvError && error.code === 'BAD_REQUEST') return undefined;
    throw error;
  }
}

describe('msgpack', () => {
  it('msgpack: plain data comes back equal', () => {
    fc.assert(
      fc.property(message, (sent) => {
        expect(decodeMsgpack(encodeMsgpack(sent))).to.deep.equal(sent);
      }),
    );
  });

  it('msgpack: integers are exact up to 2^53', () => {
    for (const power of [8, 16, 31, 32, 40, 52, 53])
      for (const number of [2 ** power - 1, 1 - 2 ** power, 2 ** (power - 1)])
        expect(decodeMsgpack(encodeMsgpack(number))).to.equal(number);
  });

  it('msgpack: bytes travel as bin and come back in memory of their own', () => {
    const sent = noise(100);
    const wire = encodeMsgpack({ bytes: sent });
    const { bytes } = decodeMsgpack(wire) as { bytes: Uint8Array };
    expect(wire.includes(0xc4)).to.equal(true);
    expect(Object.getPrototypeOf(bytes)).to.equal(Uint8Array.prototype);
    expect(bytes.buffer.byteLength).to.equal(100);
    wire.fill(0);
    expect(bytes).to.deep.equal(sent);
  });

  it('msgpack: members that are undefined are left out', () => {
    expect(decodeMsgpack(encodeMsgpack({ a: undefined, b: 1 }))).to.deep.equal({ b: 1 });
  });

  it('msgpack: what is no plain data is refused by the sender', () => {
    const deep = (levels: number): unknown => (levels === 0 ? [] : [deep(levels - 1)]);
    const bad: readonly unknown[] = [
      1n,
      Symbol('x'),
      () => 1,
      new Map(),
      new Set(),
      new Date(0),
      new Error('x'),
      2 ** 53,
      { inside: [new Map()] },
      deep(33),
    ];
    for (const value of bad) expect(() => encodeMsgpack(value), typeof value).to.throw(BugError);
  });

  it('msgpack: a member named __proto__ is refused', () => {
    const own: unknown = JSON.parse('{"__proto__":{"admin":true}}');
    expect(codeThrownBy(() => decodeMsgpack(encodeMsgpack(own)))).to.equal('BAD_REQUEST');
    const renamed = encodeMsgpack({ __pr0to__: { admin: true } });
    renamed[renamed.indexOf(0x30)] = 0x6f;
    expect(codeThrownBy(() => decodeMsgpack(renamed))).to.equal('BAD_REQUEST');
  });

  it('msgpack: extension types are refused', () => {
    const fixed = [0xd4, 0xd5, 0xd6, 0xd7, 0xd8].map((head) => [head, 1, ...new Uint8Array(16)]);
    for (const bytes of [...fixed, [0xc7, 0, 1], [0xc8, 0, 0, 1], [0xc9, 0, 0, 0, 0, 1], [0xc1]])
      expect(codeThrownBy(() => decodeMsgpack(Uint8Array.from(bytes)))).to.equal('BAD_REQUEST');
  });

  it('msgpack: cut and longer messages are refused', () => {
    const wire = encodeMsgpack({ a: [1, 'text', noise(20)], b: { c: 2 ** 40 } });
    for (let length = 0; length < wire.length; length += 1)
      expect(codeThrownBy(() => decodeMsgpack(wire.subarray(0, length)))).to.equal('BAD_REQUEST');
    const longer = new Uint8Array(wire.length + 1);
    longer.set(wire);
    expect(codeThrownBy(() => decodeMsgpack(longer))).to.equal('BAD_REQUEST');
  });

  it('msgpack: nested arrays that all claim the rest are refused (levels=2000)', () => {
    // Each level would make room for all the bytes that are left: 1.1 GB and 5 s in the package.
    const bomb = new Uint8Array(100_000);
    const view = new DataView(bomb.buffer);
    for (let at = 0; at < 2000 * 5; at += 5) {
      view.setUint8(at, 0xdd);
      view.setUint32(at + 1, bomb.length - at - 5);
    }
    expect(codeThrownBy(() => decodeMsgpack(bomb))).to.equal('BAD_REQUEST');
  });

  it('msgpack: nesting is bounded (levels=32)', () => {
    const nested = (levels: number): Uint8Array =>
      Uint8Array.from([...new Array<number>(levels).fill(0x91), 0xc0]);
    expect(decodeMsgpack(nested(32))).to.be.an('array');
    expect(codeThrownBy(() => decodeMsgpack(nested(33)))).to.equal('BAD_REQUEST');
    expect(codeThrownBy(() => decodeMsgpack(nested(100_000)))).to.equal('BAD_REQUEST');
  });

  it('msgpack: lengths beyond the input are refused', () => {
    for (const head of [0xc6, 0xdb, 0xdd, 0xdf])
      expect(
        codeThrownBy(() => decodeMsgpack(Uint8Array.from([head, 0xff, 0xff, 0xff, 0xff, 0]))),
      ).to.equal('BAD_REQUEST');
  });

  it('msgpack: noise is decoded or refused', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => void decodeOrRefuse(bytes)),
      {
        numRuns: 3000,
      },
    );
  });

  it('msgpack: changed messages are decoded or refused', () => {
    const change = fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 }));
    fc.assert(
      fc.property(message, fc.array(change, { minLength: 1, maxLength: 4 }), (sent, changes) => {
        const bytes = encodeMsgpack(sent).slice();
        for (const [at, byte] of changes) bytes[at % bytes.length] = byte;
        decodeOrRefuse(bytes);
      }),
      { numRuns: 1000 },
    );
  });
});
