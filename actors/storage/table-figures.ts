// What a table tells of its content beyond what the manifest keeps of it: lifetimes, sizes, and how it
// is packed. It lies in the properties block, for people and for decisions about merges; nothing is
// skipped because of it.
//
//   u8 codec for data blocks | u53 records that expire | u53 earliest expiry, 0 for none
//   u53 bytes of keys, of values, of data blocks before packing
//   u8 count of size classes, then u53 records of each: class n holds sizes from 2^n to below 2^(n+1)

import type { ByteReader, ByteWriter } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';
import {
  recordBytesMax,
  recordExpiresAt,
  recordKeyLength,
  recordValueLength,
} from '../model/record.ts';
import { codecNameOf, codecNumbers, type CodecName } from './sstable-format.ts';

export interface TableFigures {
  /** Of data blocks; one that would not become smaller is stored as it is. */
  readonly codec: CodecName;
  /** Records with a lifetime. */
  readonly expiring: number;
  /** The earliest end of a lifetime, milliseconds since 1970; 0: no record has one. */
  readonly minExpiresAt: number;
  readonly keyBytes: number;
  readonly valueBytes: number;
  /** Of the data blocks before packing. */
  readonly rawBytes: number;
  /** Records by size: element n counts those from 2^n to below 2^(n+1) bytes. */
  readonly sizes: readonly number[];
}

const sizeClasses = Math.floor(Math.log2(recordBytesMax)) + 1;

/** Counts what goes into a table. */
export class FigureCounter {
  readonly #sizes = new Float64Array(sizeClasses);
  #expiring = 0;
  #minExpiresAt = 0;
  #keyBytes = 0;
  #valueBytes = 0;
  rawBytes = 0;

  add(record: Uint8Array): void {
    const expiresAt = recordExpiresAt(record);
    if (expiresAt > 0) {
      this.#expiring += 1;
      if (this.#minExpiresAt === 0 || expiresAt < this.#minExpiresAt)
        this.#minExpiresAt = expiresAt;
    }
    this.#keyBytes += recordKeyLength(record);
    this.#valueBytes += recordValueLength(record);
    const size = 31 - Math.clz32(record.length);
    this.#sizes[size] = (this.#sizes[size] as number) + 1;
  }

  figures(codec: CodecName): TableFigures {
    return {
      codec,
      expiring: this.#expiring,
      minExpiresAt: this.#minExpiresAt,
      keyBytes: this.#keyBytes,
      valueBytes: this.#valueBytes,
      rawBytes: this.rawBytes,
      sizes: [...this.#sizes],
    };
  }
}

export function writeFigures(writer: ByteWriter, figures: TableFigures): void {
  writer.u8(codecNumbers[figures.codec]);
  writer.u53(figures.expiring);
  writer.u53(figures.minExpiresAt);
  writer.u53(figures.keyBytes);
  writer.u53(figures.valueBytes);
  writer.u53(figures.rawBytes);
  writer.u8(figures.sizes.length);
  for (const count of figures.sizes) writer.u53(count);
}

/** BAD_REQUEST where the bytes are none. */
export function readFigures(reader: ByteReader): TableFigures {
  const number = reader.u8();
  const codec = codecNameOf(number);
  if (codec === undefined) throw new KvError('BAD_REQUEST', { detail: `codec ${number}` });
  return {
    codec,
    expiring: reader.u53(),
    minExpiresAt: reader.u53(),
    keyBytes: reader.u53(),
    valueBytes: reader.u53(),
    rawBytes: reader.u53(),
    sizes: Array.from({ length: reader.u8() }, () => reader.u53()),
  };
}
