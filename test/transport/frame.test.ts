// Frames: whatever the chunks, what was written is read; whatever is damaged ends the connection
// before memory is spent on it.

import { expect } from 'chai';
import fc from 'fast-check';
import sinon from 'sinon';
import { concatBytes, crc32 } from '../../runtime/bytes.ts';
import type { Lz4 } from '../../runtime/environment.ts';
import {
  emptyFrame,
  FrameReader,
  framePayloadMax,
  FrameWriter,
  helloBytesMax,
  helloFrame,
  probeFrame,
} from '../../transport/frame.ts';
import { codeThrownBy } from '../kit.ts';
import { noise, realLz4 } from '../kit-transport.ts';

const lz4 = realLz4();

/** Counts calls; LZ4 itself is real. */
function countingLz4(): Lz4 & { compress: sinon.SinonSpy; decompress: sinon.SinonSpy } {
  return { compress: sinon.spy(lz4.compress), decompress: sinon.spy(lz4.decompress) };
}

function frameWith(writer: FrameWriter, ...envelopes: readonly Uint8Array[]): Uint8Array {
  for (const envelope of envelopes) writer.add(envelope);
  return writer.take();
}

interface Read {
  readonly reader: FrameReader;
  readonly envelopes: Uint8Array[];
  readonly hellos: Uint8Array[];
  readonly probes: () => number;
}

function reading(isTrusted = true): Read {
  const envelopes: Uint8Array[] = [];
  const hellos: Uint8Array[] = [];
  let probes = 0;
  const reader = new FrameReader(lz4, {
    hello: (bytes) => void hellos.push(bytes.slice()),
    envelope: (bytes) => void envelopes.push(bytes.slice()),
    probe: () => {
      probes += 1;
    },
  });
  if (isTrusted) reader.trust();
  return { reader, envelopes, hellos, probes: () => probes };
}

/** A header with these lengths and a good checksum. */
function header(payloadBytes: number, rawBytes: number): Uint8Array {
  const frame = helloFrame(new Uint8Array(0)).slice(0, 16);
  const view = new DataView(frame.buffer);
  view.setUint32(4, payloadBytes, true);
  view.setUint32(8, rawBytes, true);
  view.setUint32(12, crc32(frame.subarray(0, 12)), true);
  return frame;
}

describe('frame', () => {
  it('frame: what was written is read, however the stream is cut', () => {
    const envelope = fc.uint8Array({ minLength: 1, maxLength: 60 });
    const frames = fc.array(fc.array(envelope, { minLength: 1, maxLength: 5 }), { maxLength: 5 });
    fc.assert(
      fc.property(frames, fc.array(fc.nat({ max: 400 }), { maxLength: 12 }), (batches, cuts) => {
        const writer = new FrameWriter(lz4);
        const stream = concatBytes(batches.map((batch) => frameWith(writer, ...batch)));
        const { reader, envelopes } = reading();
        let at = 0;
        for (const cut of [...cuts].sort((a, b) => a - b)) {
          const to = Math.max(at, Math.min(cut, stream.length));
          reader.feed(stream.slice(at, to));
          at = to;
        }
        reader.feed(stream.slice(at));
        expect(envelopes).to.deep.equal(batches.flat());
      }),
    );
  });

  it('frame: a large payload that shrinks is compressed, a small one is not', () => {
    const counting = countingLz4();
    const writer = new FrameWriter(counting);
    const small = new Uint8Array(8 * 1024 - 5);
    const large = new Uint8Array(64 * 1024);
    const frames = [frameWith(writer, small), frameWith(writer, large)];
    expect(counting.compress.callCount).to.equal(1);
    expect(frames[1]?.length).to.be.below(2_000);
    const { reader, envelopes } = reading();
    for (const frame of frames) reader.feed(frame);
    expect(envelopes).to.deep.equal([small, large]);
  });

  it('frame: after payloads that do not shrink, ever fewer are tried', () => {
    const counting = countingLz4();
    const writer = new FrameWriter(counting);
    const { reader, envelopes } = reading();
    const tried: number[] = [];
    for (let i = 0; i < 12; i += 1) {
      const before = counting.compress.callCount;
      reader.feed(frameWith(writer, noise(10_000, i)));
      if (counting.compress.callCount > before) tried.push(i);
    }
    expect(tried).to.deep.equal([0, 2, 6]);
    expect(envelopes.length).to.equal(12);
  });

  it('frame: every changed byte is noticed', () => {
    const frame = frameWith(new FrameWriter(lz4), noise(20));
    for (let at = 0; at < frame.length; at += 1) {
      const changed = frame.slice();
      changed[at] = (changed[at] as number) ^ 0x40;
      const { reader, envelopes } = reading();
      expect(
        codeThrownBy(() => reader.feed(changed)),
        `byte ${at}`,
      ).to.equal('BAD_REQUEST');
      expect(envelopes).to.deep.equal([]);
    }
  });

  it('frame: LZ4 never sees a payload that fails its checksum', () => {
    const counting = countingLz4();
    const frame = frameWith(new FrameWriter(lz4), new Uint8Array(10_000));
    frame[20] = (frame[20] as number) ^ 1;
    const reader = new FrameReader(counting, {
      hello: () => undefined,
      envelope: () => undefined,
      probe: () => undefined,
    });
    reader.trust();
    expect(codeThrownBy(() => reader.feed(frame))).to.equal('BAD_REQUEST');
    expect(counting.decompress.callCount).to.equal(0);
  });

  it('frame: a length over the limit is refused before a byte of it has come', () => {
    const lengths: readonly (readonly [number, number])[] = [
      [framePayloadMax + 1, 1],
      [1, framePayloadMax + 1],
      [0xffff_ffff, 0xffff_ffff],
    ];
    for (const [payload, raw] of lengths)
      expect(codeThrownBy(() => reading().reader.feed(header(payload, raw)))).to.equal(
        'BAD_REQUEST',
      );
    expect(codeThrownBy(() => reading().reader.feed(header(framePayloadMax, 1)))).to.equal(
      'nothing was thrown',
    );
  });

  it('frame: a probe is read as one, an empty frame as nothing, both 20 bytes', () => {
    const { reader, envelopes, hellos, probes } = reading();
    const stream = concatBytes([emptyFrame(), probeFrame(), emptyFrame(), probeFrame()]);
    expect(stream.length).to.equal(80);
    reader.feed(stream);
    expect({ envelopes, hellos, probes: probes() }).to.deep.equal({
      ...{ envelopes: [], hellos: [], probes: 2 },
    });
  });

  it('frame: a stranger gets room for a handshake only', () => {
    const { reader, hellos } = reading(false);
    reader.feed(helloFrame(noise(helloBytesMax)));
    expect(hellos).to.deep.equal([noise(helloBytesMax)]);
    expect(codeThrownBy(() => reader.feed(header(helloBytesMax + 1, 1)))).to.equal('BAD_REQUEST');
  });

  it('frame: noise is refused or waits for more', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        const code = codeThrownBy(() => reading().reader.feed(bytes));
        expect(code).to.equal(bytes.length < 16 ? 'nothing was thrown' : 'BAD_REQUEST');
      }),
    );
  });
});
