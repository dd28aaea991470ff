// Keys as requests have them. Text in a path is percent-encoded; a key of dots alone would be taken for
// a step in the path by anything between here and the node, so its dots are encoded too. Bytes, which
// may be no UTF-8, go as base64url into a path or query that says so, and as base64 into JSON.

import { utf8 } from '../../runtime/bytes.ts';

/** A key: text, which stands for its UTF-8, or any bytes. */
export type Key = string | Uint8Array;

interface PathMore {
  /** `cas`, `incr` or `ttl`. */
  readonly verb?: string;
  readonly query?: Readonly<Record<string, string | number>>;
}

/** The path of a key, or of a serial operation on it, with its query. */
export function keyPath(key: Key, { verb, query = {} }: PathMore = {}): string {
  const isText = typeof key === 'string';
  const path = `/api/v1/keys/${isText ? textSegment(key) : base64url(key)}`;
  const parameters = Object.entries(isText ? query : { ...query, ...encodedAsBytes });
  const search = parameters
    .map(([name, value]) => `${name}=${encodeURIComponent(value)}`)
    .join('&');
  return `${path}${verb === undefined ? '' : `/${verb}`}${search === '' ? '' : `?${search}`}`;
}

const textSegment = (key: string): string =>
  encodeURIComponent(key).replace(/^\.+$/, (dots) => dots.replaceAll('.', '%2E'));

const encodedAsBytes = { key_encoding: 'base64url' };

const bufferOf = ({ buffer, byteOffset, byteLength }: Uint8Array): Buffer =>
  Buffer.from(buffer, byteOffset, byteLength);

const base64url = (key: Uint8Array): string => bufferOf(key).toString('base64url');

/** Parameters of a list or watch below a prefix; none for an empty one. */
export function prefixQuery(prefix: Key): Readonly<Record<string, string>> {
  if (prefix.length === 0) return {};
  return typeof prefix === 'string' ? { prefix } : { prefix: base64url(prefix), ...encodedAsBytes };
}

/** As bodies of batches have it. */
export const keyInJson = (key: Key): string | { readonly base64: string } =>
  typeof key === 'string' ? key : { base64: bufferOf(key).toString('base64') };

export const jsonKey = (key: Key): string => JSON.stringify(keyInJson(key));

/** For people: text as it is, bytes as JSON has them. */
export const shownKey = (key: Key): string => (typeof key === 'string' ? key : jsonKey(key));

/** As lists and events have it. */
export interface NamedKey {
  /** One that is no UTF-8 as the text `{"base64":"..."}`. */
  readonly key: string;
  /** Such a key, as every call takes it; absent: `key` is it. */
  readonly keyBytes?: Uint8Array;
}

export const namedKey = (key: Key): NamedKey =>
  typeof key === 'string' ? { key } : { key: shownKey(key), keyBytes: key };

export const keyBytes = (key: Key): Uint8Array =>
  typeof key === 'string' ? Buffer.from(key) : key;

/** A key in the JSON of an answer or an export, as text where it is some; undefined where it is none. */
export function parsedKey(value: unknown): Key | undefined {
  if (typeof value === 'string') return value;
  const { base64 } = (value ?? {}) as { readonly base64?: unknown };
  if (typeof base64 !== 'string') return undefined;
  const bytes = Buffer.from(base64, 'base64');
  return bytes.toString('base64') === base64 ? keyOfBytes(bytes) : undefined;
}

/** One key has one form: two that are equal have equal texts, or equal base64. */
export const keyOfBytes = (bytes: Uint8Array): Key => utf8.decodeStrict(bytes) ?? bytes;

/** `key` below `prefix`; both without lone surrogates, which have no UTF-8. */
export const prefixedKey = (prefix: Key, key: Key): Key =>
  typeof prefix === 'string' && typeof key === 'string'
    ? prefix + key
    : keyOfBytes(Buffer.concat([keyBytes(prefix), keyBytes(key)]));

const loneSurrogate = /[\ud800-\udfff]/u;

/** Text that stands for no bytes. */
export const hasLoneSurrogate = (key: Key): boolean =>
  typeof key === 'string' && loneSurrogate.test(key);
