// The figures of a table as bytes: in the table's properties block, and in the manifest's edits.
// Size and checksum come apart from the others, since a file cannot hold its own.

import type { ByteReader, ByteWriter } from '../../runtime/bytes.ts';
import type { TableMeta } from './protocol.ts';

/** All that a table's content decides. */
export type TableProperties = Omit<TableMeta, 'bytes' | 'checksum'>;

export function writeProperties(writer: ByteWriter, table: TableProperties): void {
  writer.u53(table.fileNumber);
  writer.u32(table.level);
  writer.u53(table.records);
  writer.u53(table.tombstones);
  writer.u53(table.minHlc);
  writer.u53(table.maxHlc);
  writer.u53(table.maxExpiresAt);
  writer.bytes(table.firstKey);
  writer.bytes(table.lastKey);
}

/** BAD_REQUEST where the bytes end too early. */
export function readProperties(reader: ByteReader): TableProperties {
  return {
    fileNumber: reader.u53(),
    level: reader.u32(),
    records: reader.u53(),
    tombstones: reader.u53(),
    minHlc: reader.u53(),
    maxHlc: reader.u53(),
    maxExpiresAt: reader.u53(),
    firstKey: reader.bytes(),
    lastKey: reader.bytes(),
  };
}

export function writeTableMeta(writer: ByteWriter, table: TableMeta): void {
  writer.u53(table.bytes);
  writer.u32(table.checksum);
  writeProperties(writer, table);
}

export function readTableMeta(reader: ByteReader): TableMeta {
  const bytes = reader.u53();
  const checksum = reader.u32();
  return { bytes, checksum, ...readProperties(reader) };
}
