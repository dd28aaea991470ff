// Which tables count: the state that the manifest keeps, and the edits that change it. One edit is
// one atomic change, whatever it adds and drops (MF-4).
//
//   edit   operations: u8 kind, then  1 add table: TableMeta | 2 drop table: u32 level, u53 number
//                                     3 flushed through: u53 LSN | 4 next file number: u53
//                                     5 recovered through: u53 LSN | 6 snapshot edits: u32

import { ByteReader, ByteWriter } from '../../runtime/bytes.ts';
import { assert, KvError } from '../../runtime/errors.ts';
import type { TableMeta } from './protocol.ts';
import { readTableMeta, writeTableMeta } from './table-meta.ts';

export interface DroppedTable {
  readonly level: number;
  readonly fileNumber: number;
}

export interface VersionEdit {
  readonly added: readonly TableMeta[];
  readonly dropped: readonly DroppedTable[];
  /** Every record up to this LSN is in tables; absent: as before. It never goes back. */
  readonly flushedThrough?: number;
  /**
   * The records up to this LSN came from the log of an earlier run, whose end may never have been
   * synced: it proves nothing that the log ends before. Absent: as before. It never goes back.
   */
  readonly recoveredThrough?: number;
  /** No file has had this number or a higher one; absent: as before. */
  readonly nextFileNumber?: number;
  /** It begins a snapshot of so many edits, this one included. Absent: it stands for itself. */
  readonly snapshotEdits?: number;
}

/** About what a table takes in an edit, beside its keys. */
const tableBytes = 80;

const kinds = {
  add: 1,
  drop: 2,
  flushedThrough: 3,
  nextFileNumber: 4,
  recoveredThrough: 5,
  snapshotEdits: 6,
} as const;

export function encodeEdit(edit: VersionEdit): Uint8Array {
  const writer = new ByteWriter();
  for (const { level, fileNumber } of edit.dropped) {
    writer.u8(kinds.drop);
    writer.u32(level);
    writer.u53(fileNumber);
  }
  for (const table of edit.added) {
    writer.u8(kinds.add);
    writeTableMeta(writer, table);
  }
  if (edit.flushedThrough !== undefined) {
    writer.u8(kinds.flushedThrough);
    writer.u53(edit.flushedThrough);
  }
  if (edit.nextFileNumber !== undefined) {
    writer.u8(kinds.nextFileNumber);
    writer.u53(edit.nextFileNumber);
  }
  if (edit.recoveredThrough !== undefined) {
    writer.u8(kinds.recoveredThrough);
    writer.u53(edit.recoveredThrough);
  }
  if (edit.snapshotEdits !== undefined) {
    writer.u8(kinds.snapshotEdits);
    writer.u32(edit.snapshotEdits);
  }
  return writer.view();
}

/** BAD_REQUEST where the bytes are no edit. */
export function decodeEdit(bytes: Uint8Array): VersionEdit {
  const reader = new ByteReader(bytes);
  const added: TableMeta[] = [];
  const dropped: DroppedTable[] = [];
  let marks: Omit<VersionEdit, 'added' | 'dropped'> = {};
  while (reader.left > 0) {
    const kind = reader.u8();
    if (kind === kinds.add) added.push(readTableMeta(reader));
    else if (kind === kinds.drop) dropped.push({ level: reader.u32(), fileNumber: reader.u53() });
    else if (kind === kinds.flushedThrough) marks = { ...marks, flushedThrough: reader.u53() };
    else if (kind === kinds.nextFileNumber) marks = { ...marks, nextFileNumber: reader.u53() };
    else if (kind === kinds.recoveredThrough) marks = { ...marks, recoveredThrough: reader.u53() };
    else if (kind === kinds.snapshotEdits) marks = { ...marks, snapshotEdits: reader.u32() };
    else throw new KvError('BAD_REQUEST', { detail: `version edit of kind ${kind}` });
  }
  return { added, dropped, ...marks };
}

/** The tables that count, by file number, and how far the log is in them. */
export class ManifestState {
  readonly #tables = new Map<number, TableMeta>();
  #flushedThrough = 0;
  #recoveredThrough = 0;
  #nextFileNumber = 1;

  get tables(): ReadonlyMap<number, TableMeta> {
    return this.#tables;
  }

  get flushedThrough(): number {
    return this.#flushedThrough;
  }

  get recoveredThrough(): number {
    return this.#recoveredThrough;
  }

  get nextFileNumber(): number {
    return this.#nextFileNumber;
  }

  /** Why this edit does not fit; undefined where it does. */
  problemWith({ added, dropped }: VersionEdit): string | undefined {
    const gone = new Set<number>();
    for (const { fileNumber, level } of dropped) {
      if (gone.has(fileNumber) || this.#tables.get(fileNumber)?.level !== level)
        return `drops table ${fileNumber} of level ${level}, which is not there`;
      gone.add(fileNumber);
    }
    const come = new Set<number>();
    for (const { fileNumber } of added) {
      // A table may move to another level: dropped and added in one edit.
      if (come.has(fileNumber) || (this.#tables.has(fileNumber) && !gone.has(fileNumber)))
        return `adds table ${fileNumber}, which is there`;
      come.add(fileNumber);
    }
    return undefined;
  }

  /** An edit that does not fit is a defect. */
  apply(edit: VersionEdit): void {
    const problem = this.problemWith(edit);
    assert(problem === undefined, `a version edit ${problem}`);
    for (const { fileNumber } of edit.dropped) this.#tables.delete(fileNumber);
    for (const table of edit.added) {
      this.#tables.set(table.fileNumber, table);
      this.reserveFileNumber(table.fileNumber);
    }
    this.#flushedThrough = Math.max(this.#flushedThrough, edit.flushedThrough ?? 0);
    this.#recoveredThrough = Math.max(this.#recoveredThrough, edit.recoveredThrough ?? 0);
    this.#nextFileNumber = Math.max(this.#nextFileNumber, edit.nextFileNumber ?? 0);
  }

  /** No new file gets this number. */
  reserveFileNumber(fileNumber: number): void {
    this.#nextFileNumber = Math.max(this.#nextFileNumber, fileNumber + 1);
  }

  /** The edit that makes this state out of an empty one. */
  snapshotEdit(): VersionEdit {
    return {
      added: [...this.#tables.values()],
      dropped: [],
      flushedThrough: this.#flushedThrough,
      ...(this.#recoveredThrough === 0 ? {} : { recoveredThrough: this.#recoveredThrough }),
      nextFileNumber: this.#nextFileNumber,
    };
  }

  /** The same in turn: several edits where one would be larger than `bytesMax`. */
  snapshotEdits(bytesMax: number): readonly VersionEdit[] {
    const whole = this.snapshotEdit();
    const parts: TableMeta[][] = [];
    let bytes = Infinity;
    for (const table of whole.added) {
      const taken = tableBytes + table.firstKey.length + table.lastKey.length;
      bytes += taken;
      if (bytes > bytesMax) {
        parts.push([]);
        bytes = taken;
      }
      parts[parts.length - 1]?.push(table);
    }
    if (parts.length <= 1) return [whole];
    const [first = [], ...rest] = parts;
    const others = rest.map((added) => ({ added, dropped: [] }));
    return [{ ...whole, added: first, snapshotEdits: parts.length }, ...others];
  }
}
