// Envelopes as bytes: both directions agree for every field type, deadlines travel as what is left,
// and no bytes whatever crash the decoder.

import { expect } from 'chai';
import fc from 'fast-check';
import { ByteWriter } from '../../runtime/bytes.ts';
import type { Envelope, Link } from '../../runtime/envelope.ts';
import { BugError, KvError } from '../../runtime/errors.ts';
import { ask, group, many, maybe as perhaps, protocol, tell } from '../../runtime/protocol.ts';
import { Codec } from '../../transport/codec.ts';
import { codeThrownBy } from '../kit.ts';
import { echoCodec, echoDescriptor, echoEnvelope, noise } from '../kit-transport.ts';

interface Everything {
  readonly u8: number;
  readonly u16: number;
  readonly u32: number;
  readonly u53: number;
  readonly f64: number;
  readonly bool: boolean;
  readonly bytes: Uint8Array;
  readonly text: string;
  readonly u32Maybe: number | undefined;
  readonly u53Maybe: number | undefined;
  readonly bytesMaybe: Uint8Array | undefined;
  readonly textMaybe: string | undefined;
  readonly bytesList: readonly Uint8Array[];
  readonly textList: readonly string[];
  readonly u32List: readonly number[];
  readonly u53List: readonly number[];
  readonly group: Point;
  readonly groupMaybe: Point | undefined;
  readonly groupList: readonly Point[];
}

interface Point {
  readonly x: number;
  readonly name: string | undefined;
  readonly inner: { readonly y: number };
}

const Types = protocol('types', 201, {
  all: tell<Everything>(1, {
    layout: {
      u8: 'u8',
      u16: 'u16',
      u32: 'u32',
      u53: 'u53',
      f64: 'f64',
      bool: 'bool',
      bytes: 'bytes',
      text: 'text',
      u32Maybe: 'u32?',
      u53Maybe: 'u53?',
      bytesMaybe: 'bytes?',
      textMaybe: 'text?',
      bytesList: 'bytes[]',
      textList: 'text[]',
      u32List: 'u32[]',
      u53List: 'u53[]',
      group: group({ x: 'f64', name: 'text?', inner: group({ y: 'u53' }) }),
      groupMaybe: perhaps({ x: 'f64', name: 'text?', inner: group({ y: 'u53' }) }),
      groupList: many({ x: 'f64', name: 'text?', inner: group({ y: 'u53' }) }),
    },
  }),
});

const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const u53 = fc.maxSafeNat();
const bytes = fc.uint8Array({ maxLength: 50 });
const text = fc.string({ unit: 'grapheme', maxLength: 30 });
const maybe = <T>(one: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.option(one, { nil: undefined });
const point: fc.Arbitrary<Point> = fc.record({
  x: fc.double(),
  name: maybe(text),
  inner: fc.record({ y: u53 }),
});
const everything: fc.Arbitrary<Everything> = fc.record({
  u8: fc.integer({ min: 0, max: 255 }),
  u16: fc.integer({ min: 0, max: 65_535 }),
  u32,
  u53,
  f64: fc.double(),
  bool: fc.boolean(),
  bytes,
  text,
  u32Maybe: maybe(u32),
  u53Maybe: maybe(u53),
  bytesMaybe: maybe(bytes),
  textMaybe: maybe(text),
  bytesList: fc.array(bytes, { maxLength: 5 }),
  textList: fc.array(text, { maxLength: 5 }),
  u32List: fc.array(u32, { maxLength: 5 }),
  u53List: fc.array(u53, { maxLength: 5 }),
  group: point,
  groupMaybe: maybe(point),
  groupList: fc.array(point, { maxLength: 5 }),
});

const codec = echoCodec();

function encode(envelope: Envelope, nowMs = 0): Uint8Array {
  const writer = new ByteWriter();
  codec.encodeEnvelope(writer, envelope, nowMs);
  return writer.copy();
}

function passed(envelope: Envelope, nowMs = 0, thereMs = 0, via?: Link): Envelope {
  return codec.decodeEnvelope(encode(envelope, nowMs), thereMs, via, 'a', 'b');
}

const link: Link = { name: 'back', send: () => true };

describe('codec', () => {
  it('codec: every field type comes back equal', () => {
    const types = new Codec([Types]);
    const [descriptor] = [...Types.descriptors.values()];
    if (descriptor === undefined) throw new BugError('no message');
    fc.assert(
      fc.property(everything, (body) => {
        expect(types.transcode(descriptor, false, body)).to.deep.equal(body);
      }),
    );
  });

  it('codec: an ask keeps its address, number and trace, and knows the way back', () => {
    const sent = echoEnvelope(
      'echo',
      { number: 1, bytes: noise(3) },
      {
        shard: 3,
        askId: 0xffff_ffff,
        trace: 'trace-1',
      },
    );
    expect(passed(sent, 0, 0, link)).to.deep.equal({ ...sent, via: link });
  });

  it('codec: a tell knows no way back', () => {
    expect(passed(echoEnvelope('note', { number: 1 }), 0, 0, link).via).to.equal(undefined);
  });

  it('codec: a reply uses the layout of replies', () => {
    const Uneven = protocol('uneven', 202, {
      look: ask<{ readonly at: string }, { readonly seen: number }>(1, {
        layout: { at: 'text' },
        replyLayout: { seen: 'u53' },
      }),
    });
    const uneven = new Codec([Uneven]);
    const descriptor = Uneven.descriptors.get('look');
    if (descriptor === undefined) throw new BugError('no message');
    expect(uneven.transcode(descriptor, false, { at: 'x' })).to.deep.equal({ at: 'x' });
    expect(uneven.transcode(descriptor, true, { seen: 5 })).to.deep.equal({ seen: 5 });
    const writer = new ByteWriter();
    const reply = echoEnvelope('echo', { seen: 5 }, { kind: 'reply', descriptor });
    uneven.encodeEnvelope(writer, reply, 0);
    const received = uneven.decodeEnvelope(writer.view(), 0, undefined, 'b', 'a');
    expect(received.kind).to.equal('reply');
    expect(received.body).to.deep.equal({ seen: 5 });
  });

  it('codec: an error keeps code and fields', () => {
    const failure = { code: 'CONFLICT', fields: { version: 7, detail: 'no', live: true } } as const;
    const received = passed(echoEnvelope('echo', undefined, { kind: 'error', failure }));
    expect(received.kind).to.equal('error');
    expect(received.failure).to.deep.equal(failure);
    expect(received.body).to.equal(undefined);
  });

  it('codec: a deadline travels as the time that is left, rounded up', () => {
    const at = (deadlineMs: number): number =>
      passed(echoEnvelope('hold', { number: 1 }, { deadlineMs }), 1000, 500_000).deadlineMs;
    expect(at(1250.25)).to.equal(500_251);
    expect(at(900)).to.equal(500_000);
    expect(at(Infinity)).to.equal(Infinity);
    expect(at(1e15)).to.equal(500_000 + 0xffff_fffe);
  });

  it('codec: numbers that do not fit are refused by the sender', () => {
    for (const number of [-1, 0.5, 2 ** 53, NaN])
      expect(() => encode(echoEnvelope('note', { number }))).to.throw(BugError);
  });

  it('codec: a message to self never leaves its thread', () => {
    const own = echoEnvelope('note', { number: 1 }, { descriptor: undefined });
    expect(() => encode(own)).to.throw(BugError);
  });

  it('codec: two messages with one number are refused', () => {
    const twice = protocol('twice', 203, { a: tell(1), b: tell(1) });
    expect(() => new Codec([twice])).to.throw(BugError);
  });

  it('codec: an unknown actor, message or kind is BAD_REQUEST', () => {
    const known = encode(echoEnvelope('note', { number: 1 }));
    for (const at of [0, 3, 4]) {
      const unknown = known.slice();
      unknown[at] = 0x7f;
      expect(codeThrownBy(() => codec.decodeEnvelope(unknown, 0, undefined, 'a', 'b'))).to.equal(
        'BAD_REQUEST',
      );
    }
  });

  it('codec: a list that claims more than there is makes no room for it', () => {
    const Lists = protocol('lists', 204, {
      put: tell<{ readonly numbers: readonly number[] }>(1, { layout: { numbers: 'u53[]' } }),
    });
    const lists = new Codec([Lists]);
    const writer = new ByteWriter();
    const descriptor = Lists.descriptors.get('put');
    const body = { numbers: [] };
    lists.encodeEnvelope(writer, { ...echoEnvelope('note', body), descriptor }, 0);
    const wire = writer.copy();
    wire.fill(0xff, wire.length - 4);
    expect(codeThrownBy(() => lists.decodeEnvelope(wire, 0, undefined, 'a', 'b'))).to.equal(
      'BAD_REQUEST',
    );
  });

  it('codec: cut, longer and changed envelopes are decoded or BAD_REQUEST', () => {
    const samples = [
      encode(echoEnvelope('echo', { number: 1, bytes: noise(20) }, { trace: 't' })),
      encode(echoEnvelope('shout', { body: { a: [1, 'x', noise(9)] } })),
      encode(
        echoEnvelope('echo', undefined, { kind: 'error', failure: { code: 'BUG', fields: {} } }),
      ),
    ];
    const change = fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 }));
    fc.assert(
      fc.property(
        fc.constantFrom(...samples),
        fc.array(change, { maxLength: 4 }),
        fc.integer({ min: -30, max: 5 }),
        (sample, changes, longer) => {
          const bytes = new Uint8Array(Math.max(0, sample.length + longer));
          bytes.set(sample.subarray(0, bytes.length));
          for (const [at, byte] of changes) if (bytes.length > 0) bytes[at % bytes.length] = byte;
          try {
            codec.decodeEnvelope(bytes, 0, undefined, 'a', 'b');
          } catch (error) {
            if (!(error instanceof KvError) || error.code !== 'BAD_REQUEST') throw error;
          }
        },
      ),
      { numRuns: 3000 },
    );
  });

  it('codec: what is decoded shares no memory with what was sent', () => {
    const sent = noise(10);
    const body = codec.transcode(echoDescriptor('shout'), false, { body: sent }) as {
      body: Uint8Array;
    };
    sent.fill(0);
    expect(body.body).to.deep.equal(noise(10));
  });
});
