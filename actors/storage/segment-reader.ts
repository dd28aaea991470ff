// Reads one segment of a log and judges where it ends: cleanly, torn by a power loss, or corrupt
// (rule WAL-10). A torn tail holds nothing that was ever acknowledged; a corrupt one may.
//
// Invariant: a record whose LSN a later intact record, a later segment or the manifest proves
// durable is either handed out or the verdict is 'corrupt'. Nothing is cut silently.
// References: etcd's wal package and TigerBeetle's journal, which draw the same line in other ways.

import {
  decodeSegmentHeader,
  decodeWalRecord,
  ignorableFlag,
  type LogIdentity,
  type LogKind,
  type SegmentHeader,
  segmentChain,
  segmentHeaderSpace,
  type WalRecord,
  walRecordTypes,
} from './wal-format.ts';

export interface SegmentExpectations {
  readonly kind: LogKind;
  readonly identity: Omit<LogIdentity, 'incarnation'>;
  /** From the file's name. */
  readonly segmentNumber: number;
  /** What the header of the next segment says of this one; absent: this is the last. */
  readonly later: Pick<SegmentHeader, 'previousLastLsn' | 'previousChain'> | undefined;
  /** Other evidence of what was durable; 0 where the log may be behind it (WAL-10 c). */
  readonly flushedThrough: number;
  /** More bytes than this never waited for a sync (WAL-10 d). */
  readonly inFlightBytesMax: number;
}

interface Ended {
  /** Where the records stop. */
  readonly offset: number;
  readonly lastLsn: number;
  /** What the next segment's header has to repeat. */
  readonly chain: number;
}

export type SegmentVerdict =
  | ({ readonly kind: 'end' } & Ended)
  /** The tail is of an unsynced write: it is dropped, and logged. */
  | ({ readonly kind: 'torn'; readonly reason: string } & Ended)
  /** The last segment has no readable header and no record: its making was cut short. */
  | { readonly kind: 'unborn'; readonly reason: string }
  /** Acknowledged data may be gone (WAL-11). */
  | { readonly kind: 'corrupt'; readonly offset: number; readonly reason: string }
  /** Intact, but not for this program or node: recovery stops, nothing is changed. */
  | { readonly kind: 'refused'; readonly offset: number; readonly reason: string };

/**
 * Hands out the payload-carrying records in order, as views of `bytes`, and judges the end. What
 * was handed out counts for nothing where the verdict is 'corrupt' or 'refused'. Marks and other
 * records that carry nothing go to `onSkipped`.
 */
export function readSegment(
  bytes: Uint8Array,
  expectations: SegmentExpectations,
  onRecord: (record: WalRecord) => void,
  onSkipped: (record: WalRecord) => void = () => undefined,
): SegmentVerdict {
  const header = decodeSegmentHeader(bytes);
  if (header === undefined) return judgeHeaderless(bytes, expectations);
  const stranger = strangerReason(header, expectations);
  if (stranger !== undefined) return { kind: 'refused', offset: 0, reason: stranger };
  const lastLsnMax = expectations.later?.previousLastLsn ?? Number.MAX_SAFE_INTEGER;
  const takers = { read: onRecord, skip: onSkipped };
  let chain = segmentChain(bytes);
  let lastLsn = header.previousLastLsn;
  let at = segmentHeaderSpace;
  for (;;) {
    const record = decodeWalRecord(bytes, at, header.segmentNumber);
    if (record === undefined || record.previousCrc !== chain) break;
    // An earlier recovery cut the log here: what follows does not count.
    if (record.lsn <= lastLsn || record.lsn > lastLsnMax) break;
    const use = useOf(record, header.kind);
    if (use === 'unknown')
      return { kind: 'refused', offset: at, reason: `record type ${record.type} is not known` };
    takers[use](record);
    ({ crc: chain, lsn: lastLsn, end: at } = record);
  }
  return judgeEnd(bytes, expectations, { offset: at, lastLsn, chain });
}

function useOf({ type, flags }: WalRecord, kind: LogKind): 'read' | 'skip' | 'unknown' {
  if (type === (kind === 'wal' ? walRecordTypes.data : walRecordTypes.edit)) return 'read';
  if (type === walRecordTypes.mark || (flags & ignorableFlag) !== 0) return 'skip';
  return 'unknown';
}

function strangerReason(
  header: SegmentHeader,
  { kind, identity, segmentNumber }: SegmentExpectations,
): string | undefined {
  const { clusterName, node, shard } = identity;
  if (header.kind !== kind) return `it is a ${header.kind} file`;
  if (header.clusterName !== clusterName) return `it is of cluster ${header.clusterName}`;
  if (header.node !== node) return `it is of node ${header.node}`;
  if (header.shard !== shard) return `it is of shard ${header.shard}`;
  if (header.segmentNumber !== segmentNumber) return `it is number ${header.segmentNumber}`;
  return undefined;
}

/** No readable header: only a segment that was never used may look like that. */
function judgeHeaderless(
  bytes: Uint8Array,
  { later, segmentNumber, inFlightBytesMax }: SegmentExpectations,
): SegmentVerdict {
  const reason = 'the header is damaged';
  if (later !== undefined) return { kind: 'corrupt', offset: 0, reason };
  // The header is synced before the first record is written (WAL-9).
  const end = contentEnd(bytes, segmentHeaderSpace);
  if (end > inFlightBytesMax) return { kind: 'corrupt', offset: 0, reason };
  for (let at = segmentHeaderSpace; at < end; at += 8)
    if (decodeWalRecord(bytes, at, segmentNumber) !== undefined)
      return { kind: 'corrupt', offset: 0, reason };
  return { kind: 'unborn', reason };
}

function judgeEnd(
  bytes: Uint8Array,
  { later, segmentNumber, flushedThrough, inFlightBytesMax }: SegmentExpectations,
  ended: Ended,
): SegmentVerdict {
  const { offset, lastLsn, chain } = ended;
  const corrupt = (reason: string): SegmentVerdict => ({ kind: 'corrupt', offset, reason });
  if (later !== undefined) {
    // (a) The next segment names the last record of this one.
    if (lastLsn === later.previousLastLsn && chain === later.previousChain)
      return { kind: 'end', ...ended };
    return corrupt(`the next segment follows LSN ${later.previousLastLsn}, found ${lastLsn}`);
  }
  // (c) Tables hold what came after this.
  if (flushedThrough > lastLsn)
    return corrupt(`LSN ${flushedThrough} is in tables, the log ends at ${lastLsn}`);
  const end = contentEnd(bytes, offset);
  if (end === offset) return { kind: 'end', ...ended };
  // (d) More than could have been in flight.
  if (end - offset > inFlightBytesMax) return corrupt(`${end - offset} bytes are damaged`);
  // (b) An intact record proves that the damaged one was durable.
  for (let at = offset; at < end; at += 8) {
    const record = decodeWalRecord(bytes, at, segmentNumber);
    if (record !== undefined && record.lsn > lastLsn && record.durableLsn > lastLsn)
      return corrupt(`LSN ${record.lsn} proves that ${record.durableLsn} was durable`);
  }
  return { kind: 'torn', reason: `${end - offset} bytes of an unsynced write`, ...ended };
}

/** Behind the last byte from `from` on that is not zero; `from` where all are. Mostly zeros: by words. */
function contentEnd(bytes: Uint8Array, from: number): number {
  const { buffer, byteOffset } = bytes;
  let end = bytes.length;
  const isZero = (): boolean => end > from && bytes[end - 1] === 0;
  while (isZero() && (byteOffset + end) % 4 !== 0) end -= 1;
  const words = new Int32Array(buffer, 0, Math.floor((byteOffset + end) / 4));
  let word = words.length;
  while (word * 4 - byteOffset - 4 >= from && words[word - 1] === 0) word -= 1;
  if (word < words.length) end = word * 4 - byteOffset;
  while (isZero()) end -= 1;
  return Math.max(end, from);
}
