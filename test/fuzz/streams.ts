// Streams of bytes for the ports of a node: requests as clients send them, cut, repeated, mixed and
// damaged, and noise. Everything follows from the seed.

import fc from 'fast-check';
import { FrameWriter, helloFrame } from '../../transport/frame.ts';
import { encodeHello } from '../../transport/handshake.ts';
import { requestBySchema } from './bodies.ts';

const latin = (text: string): Buffer => Buffer.from(text, 'latin1');

const recordedHttp = [
  'GET /livez HTTP/1.1\r\nhost: a\r\n\r\n',
  'GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n',
  'PUT /api/v1/keys/fuzz HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 13\r\n\r\n{"value":"x"}',
  'PUT /api/v1/keys/fuzz HTTP/1.1\r\nhost: a\r\ncontent-type: application/octet-stream\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n',
  'GET /api/v1/keys/fuzz?consistency=ONE HTTP/1.1\r\nhost: a\r\nx-deadline-ms: 5\r\n\r\n',
  'GET /api/v1/keys?prefix=f&limit=3 HTTP/1.1\r\nhost: a\r\n\r\n',
  'DELETE /api/v1/keys/fuzz HTTP/1.1\r\nhost: a\r\n\r\n',
  'POST /api/v1/batch HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 53\r\n\r\n{"operations":[{"op":"put","key":"fuzz","value":[1]}]}',
  'GET /api/v1/admin/cluster/status HTTP/1.1\r\nhost: a\r\n\r\n',
].map(latin);

const recordedResp = [
  '*1\r\n$4\r\nPING\r\n',
  '*3\r\n$3\r\nSET\r\n$4\r\nfuzz\r\n$3\r\nabc\r\n',
  '*2\r\n$3\r\nGET\r\n$4\r\nfuzz\r\n',
  '*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n',
  '*4\r\n$4\r\nSCAN\r\n$1\r\n0\r\n$5\r\nCOUNT\r\n$2\r\n10\r\n',
  '*2\r\n$4\r\nINCR\r\n$7\r\nfuzznum\r\n',
  '*-1\r\n*0\r\n$-1\r\n',
  '*2147483647\r\n$2147483647\r\n',
  '*1048576\r\n',
  'SET fuzz "a\\x00b"\r\nGET fuzz\r\n',
].map(latin);

/** A frame's start: magic and lengths as an attacker would choose them. */
const recordedInternode = [
  Buffer.from([0x4b, 0x56, 0x44, 0x46, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0]),
  Buffer.alloc(64, 0xff),
  latin('*1\r\n$4\r\nPING\r\n'),
];

/** The member that an attacker says to be. */
const fuzzPeer = 'n2';

export type Port = 'http' | 'resp' | 'internode';

const recorded: Readonly<Record<Port, readonly Buffer[]>> = {
  http: recordedHttp,
  resp: recordedResp,
  internode: recordedInternode,
};

const edit = fc.record({
  at: fc.nat(400),
  what: fc.constantFrom('flip', 'cut', 'insert', 'repeat'),
  bytes: fc.uint8Array({ minLength: 1, maxLength: 24 }),
});
type Edit = typeof edit extends fc.Arbitrary<infer T> ? T : never;

function damaged(bytes: Buffer, { at, what, bytes: extra }: Edit): Buffer {
  const place = bytes.length === 0 ? 0 : at % bytes.length;
  const [head, tail] = [bytes.subarray(0, place), bytes.subarray(place)];
  if (what === 'cut') return head;
  if (what === 'insert') return Buffer.concat([head, extra, tail]);
  if (what === 'repeat') return Buffer.concat([head, tail, tail]);
  const copy = Buffer.from(bytes);
  for (const [i, byte] of extra.entries()) {
    const target = (place + i * 7) % Math.max(1, copy.length);
    if (i < 3 && copy.length > 0) copy[target] = (copy[target] ?? 0) ^ byte;
  }
  return copy;
}

const streamOf = (port: Port): fc.Arbitrary<Buffer> =>
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc
        .tuple(
          fc.array(fc.constantFrom(...recorded[port]), { minLength: 1, maxLength: 12 }),
          fc.array(edit, { maxLength: 5 }),
        )
        .map(([parts, edits]) => edits.reduce(damaged, Buffer.concat(parts))),
    },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 4096 }).map((bytes) => Buffer.from(bytes)) },
  );

/** A frame that is whole in itself; small enough never to be compressed. */
function frameWith(envelope: Uint8Array): Uint8Array {
  const writer = new FrameWriter({
    compress: (bytes) => bytes,
    decompress: (bytes) => bytes,
  });
  writer.add(envelope);
  return writer.take();
}

const hello = fc
  .record({
    clusterName: fc.constantFrom('dev', 'dev', 'dev', 'other'),
    node: fc.constantFrom(fuzzPeer, fuzzPeer, 'n1', 'stranger'),
    incarnation: fc.nat(5),
    thread: fc.nat(3),
    profile: fc.constantFrom('single', 'small', 'wide'),
    shards: fc.nat(4),
  })
  .map((one) => helloFrame(encodeHello(one as Parameters<typeof encodeHello>[0])));

/** A member says hello, then sends frames with right sums around envelopes that are none. */
const strangeMember: fc.Arbitrary<Buffer> = fc
  .tuple(hello, fc.array(fc.uint8Array({ minLength: 1, maxLength: 200 }), { maxLength: 12 }))
  .map(([greeting, envelopes]) => Buffer.concat([greeting, ...envelopes.map(frameWith)]));

/** Streams that are whole in themselves, damaged now and then. */
const wellFormed = (port: Port): fc.Arbitrary<Buffer> => {
  if (port === 'resp') return streamOf(port);
  const one = port === 'http' ? requestBySchema : strangeMember;
  const parts = fc.array(one, { minLength: 1, maxLength: port === 'http' ? 4 : 1 });
  return fc
    .tuple(parts, fc.option(edit, { freq: 2 }))
    .map(([all, change]) =>
      change === null ? Buffer.concat(all) : damaged(Buffer.concat(all), change),
    );
};

/** How a stream is sent: in pieces, and what the client does after it. */
export interface Attack {
  readonly port: Port;
  readonly stream: Buffer;
  readonly pieces: number;
  readonly end: 'finish' | 'reset' | 'linger' | 'deaf';
}

const attack: fc.Arbitrary<Attack> = fc
  .constantFrom<Port>('http', 'resp', 'internode')
  .chain((port) =>
    fc.record({
      port: fc.constant(port),
      stream: fc.oneof(
        { weight: 2, arbitrary: streamOf(port) },
        { weight: 1, arbitrary: wellFormed(port) },
      ),
      pieces: fc.integer({ min: 1, max: 5 }),
      end: fc.constantFrom<Attack['end']>('finish', 'reset', 'linger', 'deaf'),
    }),
  );

export const attacks = (seed: number, count: number): readonly Attack[] =>
  fc.sample(attack, { seed, numRuns: count });
