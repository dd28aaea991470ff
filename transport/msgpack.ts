// msgpack for everything that has no fixed layout, behind a bounded decoder. The package trusts
// what it reads: lengths from the wire allocate, nesting recurses, ext types revive objects and
// `__proto__` replaces a prototype. So the structure is walked first, without recursion and without
// allocating: values still owed may never exceed the bytes that are left (SE-9).

import msgpack from 'msgpack-lite';
import { BugError, KvError } from '../runtime/errors.ts';

const depthMax = 32;
/** Values of one message, at most. */
const valuesMax = 262_144;
/** Without the preset no ext type is revived; maps come back as Map, so no key can do harm. */
const codec = msgpack.createCodec({ usemap: true });

/** Plain data only: BugError names what cannot travel. Members that are undefined are left out. */
export function encodeMsgpack(value: unknown): Uint8Array {
  return msgpack.encode(portable(value, 0), { codec });
}

/** Plain objects, arrays, numbers, text, Uint8Array; BAD_REQUEST for anything else. */
export function decodeMsgpack(bytes: Uint8Array): unknown {
  walk(bytes);
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return revived(msgpack.decode(buffer, { codec }));
}

function portable(value: unknown, depth: number): unknown {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return value;
    case 'number':
      if (Number.isInteger(value) && !Number.isSafeInteger(value))
        throw new BugError(`message holds ${value}, which is no safe integer`);
      return value;
    case 'undefined':
      return null;
    case 'object':
      return portableObject(value, depth);
    default:
      throw new BugError(`message holds a ${typeof value}`);
  }
}

function portableObject(value: object | null, depth: number): unknown {
  if (value === null) return null;
  if (depth >= depthMax) throw new BugError('message nests too deep');
  if (value instanceof Uint8Array)
    return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  if (Array.isArray(value)) return value.map((item) => portable(item, depth + 1));
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null)
    throw new BugError(`message holds a ${value.constructor.name}, which is no plain data`);
  const map = new Map<string, unknown>();
  for (const [name, member] of Object.entries(value))
    if (member !== undefined) map.set(name, portable(member, depth + 1));
  return map;
}

function revived(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(revived);
  if (Buffer.isBuffer(value)) return new Uint8Array(value);
  if (!(value instanceof Map)) return value;
  const object: Record<string, unknown> = {};
  for (const [name, member] of value) {
    if (typeof name !== 'string' || name === '__proto__')
      throw new KvError('BAD_REQUEST', { detail: 'message member without a plain name' });
    object[name] = revived(member);
  }
  return object;
}

const cutShort = (): KvError => new KvError('BAD_REQUEST', { detail: 'message cut short' });

/** Checks the structure: whole, nothing behind it, no ext types, not too deep. */
function walk(bytes: Uint8Array): void {
  // Values owed at each depth.
  const owed = new Float64Array(depthMax + 1);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  owed[0] = 1;
  let depth = 0;
  let totalOwed = 1;
  let values = 1;
  let at = 0;
  while (totalOwed > 0) {
    while ((owed[depth] as number) === 0) depth -= 1;
    owed[depth] = (owed[depth] as number) - 1;
    totalOwed -= 1;
    if (at >= bytes.length) throw cutShort();
    const head = headAt(view, bytes[at] as number, at);
    at += head.bytes;
    if (at > bytes.length || totalOwed + head.children > bytes.length - at) throw cutShort();
    if (head.children === 0) continue;
    depth += 1;
    if (depth > depthMax)
      throw new KvError('BAD_REQUEST', { detail: `message nests deeper than ${depthMax}` });
    owed[depth] = head.children;
    totalOwed += head.children;
    values += head.children;
    // A byte on the wire may cost hundreds in memory.
    if (values > valuesMax)
      throw new KvError('BAD_REQUEST', { detail: `message of over ${valuesMax} values` });
  }
  if (at !== bytes.length)
    throw new KvError('BAD_REQUEST', { detail: `${bytes.length - at} bytes behind a message` });
}

interface Head {
  /** Of the head with its content, without children. */
  readonly bytes: number;
  readonly children: number;
}

const leaf = (bytes: number): Head => ({ bytes, children: 0 });

/** One value's head, by the msgpack specification. */
function headAt(view: DataView, byte: number, at: number): Head {
  if (byte <= 0x7f || byte >= 0xe0) return leaf(1);
  if (byte <= 0x8f) return { bytes: 1, children: (byte & 0x0f) * 2 };
  if (byte <= 0x9f) return { bytes: 1, children: byte & 0x0f };
  if (byte <= 0xbf) return leaf(1 + (byte & 0x1f));
  const length = (width: 1 | 2 | 4): number => {
    if (at + 1 + width > view.byteLength) throw cutShort();
    if (width === 1) return view.getUint8(at + 1);
    return width === 2 ? view.getUint16(at + 1) : view.getUint32(at + 1);
  };
  switch (byte) {
    case 0xc0:
    case 0xc2:
    case 0xc3:
      return leaf(1);
    case 0xc4:
    case 0xd9:
      return leaf(2 + length(1));
    case 0xc5:
    case 0xda:
      return leaf(3 + length(2));
    case 0xc6:
    case 0xdb:
      return leaf(5 + length(4));
    case 0xcc:
    case 0xd0:
      return leaf(2);
    case 0xcd:
    case 0xd1:
      return leaf(3);
    case 0xca:
    case 0xce:
    case 0xd2:
      return leaf(5);
    case 0xcb:
    case 0xcf:
    case 0xd3:
      return leaf(9);
    case 0xdc:
      return { bytes: 3, children: length(2) };
    case 0xdd:
      return { bytes: 5, children: length(4) };
    case 0xde:
      return { bytes: 3, children: length(2) * 2 };
    case 0xdf:
      return { bytes: 5, children: length(4) * 2 };
    default:
      throw new KvError('BAD_REQUEST', { detail: 'message holds an extension type' });
  }
}
