// What a shard's store lets in. Records on the way to the log, records in memory, tables that wait
// for their merge and the free space of the disk are all bounded; beyond, a write is refused
// before anything of it is written, so that nothing grows without limit and nothing acknowledged
// depends on luck.
//
// Space: `spareBytes` is what the disk had beyond what must stay free at the last look, less what
// was let in since, counted twice: once for the log and once for the table. When it is used up the
// disk is looked at again before the record is let in, so that writes alone never take what the
// flush of memory needs (FS-8).
//
// `admitted` counts what has been let in since the last freeze, `in flight` what of it the log has
// not answered yet: what is in flight at a freeze belongs to the next table.

import { KvError } from '../../runtime/errors.ts';
import { recordBytesMax } from '../model/record.ts';

export interface AdmissionLimits {
  /** Records of so many bytes in memory are flushed; no more until the freeze. */
  readonly memtableBytes: number;
  /** Bytes that may wait for the log; one record always may, as large as the store takes it. */
  readonly inFlightBytes: number;
  /** With its index no record is larger: an arena has room for it on top of a full memtable. */
  readonly heldBytesMax: number;
}

/** Arena bytes of a record beside its own: index entry, alignment, half-full nodes. */
const recordOverheadBytes = 96;
/** Their answers come in the control lane, which holds twice as many. */
const inFlightRecordsMax = 32_768;

/** What records take in a memtable. */
export const heldBytes = (bytes: number, records: number): number =>
  bytes + records * recordOverheadBytes;

export class Admission {
  readonly #limits: AdmissionLimits;
  #inFlightBytes = 0;
  #inFlightRecords = 0;
  #admittedBytes = 0;
  /** The disk has too little free space. */
  isFull = false;
  /** Bytes that may still be written before the disk has to be looked at again. */
  spareBytes = 0;
  /** Too many tables wait for their merge. */
  isStalled = false;

  readonly #look: () => void;

  /** `look` sets `isFull` and `spareBytes` by what the disk says now. */
  constructor(limits: AdmissionLimits, look: () => void) {
    this.#limits = limits;
    this.#look = look;
  }

  get inFlightBytes(): number {
    return this.#inFlightBytes;
  }

  /** The memtable should be frozen. */
  get isMemtableFull(): boolean {
    return this.#admittedBytes >= this.#limits.memtableBytes;
  }

  /** Lets records in, or throws TOO_LARGE, DISK_FULL or OVERLOADED and changes nothing. */
  enter(bytes: number, records: number): void {
    this.#checkSize(bytes, records);
    const { inFlightBytes, memtableBytes } = this.#limits;
    const written = heldBytes(bytes, records) * 2;
    if (!this.isFull && written > this.spareBytes) this.#look();
    if (this.isFull || written > this.spareBytes)
      throw new KvError('DISK_FULL', {
        detail: 'the space left is what memory needs to be flushed; reads go on',
      });
    if (this.#inFlightBytes > 0 && this.#inFlightBytes + bytes > inFlightBytes)
      throw new KvError('OVERLOADED', { inFlightBytes: this.#inFlightBytes, max: inFlightBytes });
    if (this.#inFlightRecords >= inFlightRecordsMax)
      throw new KvError('OVERLOADED', { inFlightRecords: this.#inFlightRecords });
    if (this.#admittedBytes >= memtableBytes)
      throw new KvError('OVERLOADED', { detail: 'memtables wait for their flush' });
    if (this.isStalled)
      throw new KvError('OVERLOADED', { detail: 'tables wait for their compaction' });
    this.#inFlightBytes += bytes;
    this.#inFlightRecords += records;
    this.#admittedBytes += heldBytes(bytes, records);
    this.spareBytes -= written;
  }

  /** What is in the log has to fit into memory, now and at the next start. */
  #checkSize(bytes: number, records: number): void {
    const { inFlightBytes, heldBytesMax } = this.#limits;
    const held = heldBytes(bytes, records);
    const max = records > 1 ? Math.min(inFlightBytes, recordBytesMax) : heldBytesMax;
    if (held > max) throw new KvError('TOO_LARGE', { records, bytes: held, max });
  }

  /** The log has answered, with success or not. */
  logged(bytes: number, records: number): void {
    this.#inFlightBytes -= bytes;
    this.#inFlightRecords -= records;
  }

  /** A freeze is on its way: what is in flight belongs to the next table. */
  frozen(): void {
    this.#admittedBytes = heldBytes(this.#inFlightBytes, this.#inFlightRecords);
  }
}
