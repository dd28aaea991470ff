// Fixed layouts: fields one after the other, as the message table declares them once. A layout is
// compiled into a list of field codecs; nothing is generated as code.

import type { ByteReader, ByteWriter } from '../runtime/bytes.ts';
import { BugError, KvError } from '../runtime/errors.ts';
import type { FieldTable, FieldType, Group } from '../runtime/protocol.ts';

interface FieldCodec {
  readonly write: (writer: ByteWriter, value: never) => void;
  readonly read: (reader: ByteReader) => unknown;
}

export interface LayoutCodec {
  readonly write: (writer: ByteWriter, body: object) => void;
  readonly read: (reader: ByteReader) => object;
}

const maxU53 = 2 ** 53;

function whole(bits: number, write: (writer: ByteWriter, value: number) => void) {
  const limit = bits === 53 ? maxU53 : 2 ** bits;
  return (writer: ByteWriter, value: number): void => {
    if (!Number.isInteger(value) || value < 0 || value >= limit)
      throw new BugError(`${String(value)} does not fit into u${bits}`);
    write(writer, value);
  };
}

function readU53(reader: ByteReader): number {
  const value = reader.u53();
  if (value >= maxU53) throw new KvError('BAD_REQUEST', { detail: 'integer above 2^53' });
  return value;
}

const u8: FieldCodec = { write: whole(8, (w, v) => w.u8(v)), read: (r) => r.u8() };
const u16: FieldCodec = { write: whole(16, (w, v) => w.u16(v)), read: (r) => r.u16() };
const u32: FieldCodec = { write: whole(32, (w, v) => w.u32(v)), read: (r) => r.u32() };
const u53: FieldCodec = { write: whole(53, (w, v) => w.u53(v)), read: readU53 };
const f64: FieldCodec = {
  write: (w: ByteWriter, v: number) => w.f64(v),
  read: (r) => r.f64(),
};
const bool: FieldCodec = {
  write: (w: ByteWriter, v: boolean) => w.u8(v ? 1 : 0),
  read: (r) => r.u8() !== 0,
};
const bytes: FieldCodec = {
  write: (w: ByteWriter, v: Uint8Array) => w.bytes(v),
  read: (r) => r.bytes(),
};
const text: FieldCodec = { write: (w: ByteWriter, v: string) => w.text(v), read: (r) => r.text() };

function optional(field: FieldCodec): FieldCodec {
  return {
    write: (writer: ByteWriter, value: unknown) => {
      writer.u8(value === undefined ? 0 : 1);
      if (value !== undefined) field.write(writer, value as never);
    },
    read: (reader) => (reader.u8() === 0 ? undefined : field.read(reader)),
  };
}

/** Items of one list, at most: each costs far more in memory than on the wire. */
const itemsMax = 262_144;

/** `itemBytesMin`: what each item takes at least, so that a count can be checked first. */
function list(field: FieldCodec, itemBytesMin: number): FieldCodec {
  return {
    write: (writer: ByteWriter, items: readonly unknown[]) => {
      writer.u32(items.length);
      for (const item of items) field.write(writer, item as never);
    },
    read: (reader) => {
      const count = reader.u32();
      if (count * itemBytesMin > reader.left || count > itemsMax)
        throw new KvError('BAD_REQUEST', {
          detail: `a list of ${count} items is cut short or too long`,
        });
      const items: unknown[] = [];
      for (let i = 0; i < count; i += 1) items.push(field.read(reader));
      return items;
    },
  };
}

const fieldCodecs: Readonly<Record<FieldType, FieldCodec>> = {
  u8,
  u16,
  u32,
  u53,
  f64,
  bool,
  bytes,
  text,
  'u32?': optional(u32),
  'u53?': optional(u53),
  'bytes?': optional(bytes),
  'text?': optional(text),
  'bytes[]': list(bytes, 4),
  'text[]': list(text, 4),
  'u32[]': list(u32, 4),
  'u53[]': list(u53, 8),
};

function codecOf(type: FieldType | Group<unknown>): FieldCodec {
  if (typeof type === 'string') return fieldCodecs[type];
  const fields = layoutCodec(type.fields);
  if (type.times === 'one') return fields;
  return type.times === 'maybe' ? optional(fields) : list(fields, bytesMin(type.fields));
}

const bytesMinOf: Partial<Record<FieldType, number>> = { u53: 8, f64: 8, text: 4, bytes: 4 };

/** What an item of these fields takes at least, for the check of a count: no more than it is worth. */
function bytesMin(table: FieldTable): number {
  let sum = 0;
  for (const [, type] of table) sum += typeof type === 'string' ? (bytesMinOf[type] ?? 1) : 0;
  return Math.max(1, sum);
}

export function layoutCodec(table: FieldTable): LayoutCodec {
  const fields = table.map(([name, type]) => ({ name, codec: codecOf(type) }));
  return {
    write: (writer, body) => {
      const members = body as Record<string, unknown>;
      for (const { name, codec } of fields) codec.write(writer, members[name] as never);
    },
    read: (reader) => {
      const body: Record<string, unknown> = {};
      for (const { name, codec } of fields) body[name] = codec.read(reader);
      return body;
    },
  };
}
