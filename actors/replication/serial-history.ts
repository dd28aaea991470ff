// What a key's newest decisions were, carried along with each proposal: so that a coordinator which
// was interrupted finds out whether its own proposal was decided by somebody else (PX-12), and a
// retry with the same request id gets the result of the first time (ID-3).
//
//   count of ballots, then each: 8 hlc   4 writer   4 incarnation          the oldest first
//   count of results, then each: 8 request id (53 bits of hash)   4 hash of the request
//                                1 applied   8 version   8 hlc   4 writer   4 incarnation
//                                9 number (1 there or not, 8 value)

import { ByteReader, ByteWriter, crc32, utf8 } from '../../runtime/bytes.ts';
import { fingerprint32Pure } from '../../runtime/fingerprint32.ts';
import { compareEtags, type Etag } from '../model/record.ts';

/** A ballot is compared like the etag of a record: all fields count (PX-1). */
export type Ballot = Etag;

/** What is kept of an operation that carried a request id. */
export interface KeptResult extends Etag {
  readonly id: number;
  readonly request: number;
  readonly isApplied: boolean;
  readonly version: number;
  readonly number: number | undefined;
}

const ballotsMax = 256;
/** So many results are kept in any case, and so many at most of the last ten minutes (ID-3). */
const resultsMin = 128;
const resultsMax = 1024;
const resultsMicros = 600_000_000;
const ballotBytes = 16;
const resultBytes = 46;
const idBits = 2 ** 21;

/** 53 bits that stand for a request id of a client. */
export function requestIdOf(text: string): number {
  const bytes = utf8.encode(text);
  return fingerprint32Pure(bytes) * idBits + (crc32(bytes) % idBits);
}

export class SerialHistory {
  /** Ballots under which updates were first proposed, the oldest first. */
  readonly ballots: readonly Ballot[];
  readonly results: readonly KeptResult[];

  constructor(ballots: readonly Ballot[] = [], results: readonly KeptResult[] = []) {
    this.ballots = ballots;
    this.results = results;
  }

  /** With one more decision and its results; the oldest are forgotten. */
  with(ballot: Ballot, results: readonly KeptResult[]): SerialHistory {
    const all = [...this.results, ...results].slice(-resultsMax);
    const surplus = all.slice(0, Math.max(0, all.length - resultsMin));
    const firstYoung = surplus.findIndex(({ hlc }) => hlc >= ballot.hlc - resultsMicros);
    const old = firstYoung < 0 ? surplus.length : firstYoung;
    return new SerialHistory([...this.ballots, ballot].slice(-ballotsMax), all.slice(old));
  }

  find(id: number): KeptResult | undefined {
    return this.results.find((result) => result.id === id);
  }

  includes(ballot: Ballot): boolean {
    return this.ballots.some((one) => compareEtags(one, ballot) === 0);
  }

  /** Everything decided since `ballot` is in the list: a ballot that is not was not decided. */
  reaches(ballot: Ballot): boolean {
    const [oldest] = this.ballots;
    const isWhole = this.ballots.length < ballotsMax;
    return isWhole || (oldest !== undefined && compareEtags(oldest, ballot) < 0);
  }

  encode(): Uint8Array {
    const { ballots, results } = this;
    const writer = new ByteWriter(8 + ballots.length * ballotBytes + results.length * resultBytes);
    writer.u32(ballots.length);
    for (const ballot of ballots) writeBallot(writer, ballot);
    writer.u32(results.length);
    for (const result of results) {
      writer.u53(result.id);
      writer.u32(result.request);
      writer.u8(result.isApplied ? 1 : 0);
      writer.u53(result.version);
      writeBallot(writer, result);
      writer.u8(result.number === undefined ? 0 : 1);
      writer.f64(result.number ?? 0);
    }
    return writer.copy();
  }

  static decode(bytes: Uint8Array): SerialHistory {
    if (bytes.length === 0) return new SerialHistory();
    const reader = new ByteReader(bytes);
    const ballots: Ballot[] = [];
    for (let left = reader.u32(); left > 0; left -= 1) ballots.push(readBallot(reader));
    const results: KeptResult[] = [];
    for (let left = reader.u32(); left > 0; left -= 1) {
      const id = reader.u53();
      const request = reader.u32();
      const isApplied = reader.u8() === 1;
      const version = reader.u53();
      const etag = readBallot(reader);
      const hasNumber = reader.u8() === 1;
      const number = reader.f64();
      const kept = { id, request, isApplied, version, number: hasNumber ? number : undefined };
      results.push({ ...kept, ...etag });
    }
    return new SerialHistory(ballots, results);
  }
}

export function writeBallot(writer: ByteWriter, { hlc, writer: by, incarnation }: Ballot): void {
  writer.u53(hlc);
  writer.u32(by);
  writer.u32(incarnation);
}

export function readBallot(reader: ByteReader): Ballot {
  return { hlc: reader.u53(), writer: reader.u32(), incarnation: reader.u32() };
}
