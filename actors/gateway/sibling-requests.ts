// Keys of namespaces that keep siblings, over HTTP (DV-2, DV-5, DV-6): a read gives all values that
// nobody has overwritten, with a context; a write that carries the context takes their place, one
// without it stands beside them. What needs one value, and one only, is refused in such namespaces.

import { base64url, noBytes } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';
import { isSerial } from '../model/consistency.ts';
import {
  encodeRecord,
  type Etag,
  recordEtag,
  recordHlc,
  recordKey,
  recordVersion,
} from '../model/record.ts';
import { contextOf, liveSiblings, setOf } from '../model/siblings.ts';
import type { SiblingWriteReply, SiblingWriteRequest } from '../replication/protocol.ts';
import {
  etagHeader,
  joined,
  jsonHeaders,
  keyText,
  millis,
  type Part,
  rawAnswer,
  recordParts,
} from './http-answers.ts';
import type { Terms, ValueToPut } from './http-requests.ts';
import type { HttpAnswer, HttpRequest } from './protocol.ts';

const contextHeader = 'x-causal-context';
/** Routes that work on several values of a key as on one. */
const served: ReadonlySet<string> = new Set(['put', 'get', 'head', 'delete', 'list', 'scan']);

/** BAD_REQUEST for what a namespace that keeps siblings cannot do; a decision would give one value. */
export function checkSiblingTerms(route: string, { level }: Pick<Terms, 'level'>): void {
  checkSiblingRoute(route);
  if (isSerial(level)) refuse('Consistency-Level', 'serial level');
}

function refuse(field: string, what: string): never {
  const detail = `${field}: expected no ${what} in a namespace that keeps siblings`;
  throw new KvError('BAD_REQUEST', { field, detail });
}

/** The same of the route alone, or of a part of what it does. */
export function checkSiblingRoute(route: string): void {
  if (served.has(route)) return;
  const detail = `${route} is not for a namespace that keeps siblings: it needs one value of a key`;
  throw new KvError('BAD_REQUEST', { field: 'X-Namespace', detail });
}

/**
 * BAD_REQUEST for the context of a write where a key has one value: it would be ignored, and the
 * write would take the place of what its sender has not seen.
 */
export function checkPlainTerms({ headers }: HttpRequest): void {
  if ((headers[contextHeader] ?? '') === '') return;
  const detail =
    'X-Causal-Context: expected none, this namespace keeps no siblings; If-Match is the condition here';
  throw new KvError('BAD_REQUEST', { field: 'X-Causal-Context', detail });
}

/** `operation`: absent for a delete. BAD_REQUEST for conditions and what is not explained. */
export function siblingWriteOf(
  { headers }: HttpRequest,
  { namespace, level, explain }: Terms,
  key: Uint8Array,
  operation: ValueToPut | undefined,
): SiblingWriteRequest {
  for (const name of ['if-match', 'if-none-match'])
    if (headers[name] !== undefined) refuse(name, 'condition');
  if (explain) refuse('X-Explain', 'explanation of a write');
  if (operation?.ifNotExists === true) refuse('if_not_exists', 'condition');
  const text = headers[contextHeader] ?? '';
  const context = text === '' ? noBytes : base64url.decode(text);
  if (context === undefined)
    throw new KvError('BAD_REQUEST', {
      field: 'X-Causal-Context',
      detail: 'X-Causal-Context: expected what a read of this key has answered',
    });
  const { value, valueType = 0, ttlMs = 0 } = operation ?? {};
  return { namespace, key, value, valueType, ttlMs, context, level };
}

/** `isDelete`: it says whether there was something, as other deletes do. */
export function siblingWriteAnswer(
  key: Uint8Array,
  reply: SiblingWriteReply,
  isDelete: boolean,
): HttpAnswer {
  const { version, siblings, existed, context } = reply;
  const text = base64url.encode(context);
  const figures = `"version":${version},"siblings":${siblings},${isDelete ? `"deleted":${existed}` : `"existed":${existed},"status":"success"`}`;
  return answer(200, reply, text, [`{"key":${keyText(key)},${figures},"context":"${text}"}`]);
}

/** The live values of a key, each as a record of its own, which is what a value is rendered from. */
function siblingsOf(
  record: Uint8Array,
  nowMs: number,
): { readonly etag: Etag; readonly context: string; readonly values: readonly Uint8Array[] } {
  const etag = recordEtag(record);
  const values = liveSiblings(setOf(record), nowMs).map((sibling) =>
    encodeRecord({
      ...etag,
      key: recordKey(record),
      ...sibling,
      isTombstone: false,
      version: recordVersion(record),
      token: 0,
      hash: 0,
    }),
  );
  return { etag, context: base64url.encode(contextOf(record)), values };
}

/** One value is answered as it always is, with a context; several with 300. */
export function siblingReadAnswer(
  key: Uint8Array,
  record: Uint8Array,
  nowMs: number,
  isRaw: boolean,
): HttpAnswer {
  const { etag, context, values } = siblingsOf(record, nowMs);
  const [only, ...more] = values;
  if (only !== undefined && more.length === 0) {
    if (isRaw) return withContext(rawAnswer(only, nowMs), etag, context);
    const parts = [`{"key":${keyText(key)},`, ...recordParts(only, nowMs)];
    return answer(200, etag, context, [...parts, `,"context":"${context}"}`]);
  }
  const all: Part[] = values.flatMap((value, i): Part[] => [
    i === 0 ? '{' : ',{',
    ...recordParts(value, nowMs),
    '}',
  ]);
  const head = `{"key":${keyText(key)},"version":${recordVersion(record)},"values":[`;
  return answer(300, etag, context, [head, ...all, `],"context":"${context}"}`]);
}

/** What a read would say in its headers; of several values there is no type and no end. */
export function siblingHeadAnswer(record: Uint8Array, nowMs: number): HttpAnswer {
  const { etag, context, values } = siblingsOf(record, nowMs);
  const [only, ...more] = values;
  if (only !== undefined && more.length === 0)
    return withContext({ ...rawAnswer(only, nowMs), body: noBytes }, etag, context);
  const headers = {
    ...jsonHeaders,
    'x-version': String(recordVersion(record)),
    'x-timestamp': String(millis(recordHlc(record))),
  };
  return withContext({ status: 300, headers, body: noBytes }, etag, context);
}

function answer(status: number, etag: Etag, context: string, parts: readonly Part[]): HttpAnswer {
  return withContext({ status, headers: jsonHeaders, body: joined(parts) }, etag, context);
}

const withContext = (from: HttpAnswer, etag: Etag, context: string): HttpAnswer => ({
  ...from,
  headers: { ...from.headers, etag: etagHeader(etag), [contextHeader]: context },
});
