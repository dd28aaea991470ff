// Commands on keys as such: deleting, existence, time to live, pages of keys. A change of the time
// to live is a serial operation: it never brings back a value that another client has replaced.
//
// A cursor of SCAN has to be a decimal number for Redis clients, so it is the id of a small record in
// a namespace of its own that holds the last key given out: replicated, so that any node goes on with
// it, and gone ten minutes after it was given out.

import { compareBytes, latin1, noBytes } from '../../runtime/bytes.ts';
import { failure } from '../../runtime/errors.ts';
import { type Level, requiredAcks } from '../model/consistency.ts';
import { cursorNamespace, recordExpiresAt, recordUserKey, recordValue } from '../model/record.ts';
import type { ExpiryWord, ScanReply } from '../replication/protocol.ts';
import { finalFailure } from './attempts.ts';
import { Glob } from './glob.ts';
import { countedLevel } from './http-requests.ts';
import { integerOf, type RespCall, wordOf } from './resp-call.ts';
import { answerBytesMax, bytesValue, fail, type Place, removal } from './resp-keys.ts';
import { errorReply, notInteger, type Reply, status, syntaxError } from './resp-replies.ts';
import type { RespHandler, RespHandlers, RespServices } from './resp-services.ts';
import { applySerial, ttlOf } from './resp-strings.ts';
import type { SerialChange } from './serial-operations.ts';

/** Beyond every namespace that a user can have; what one node writes, another one reads. */
const cursorPlace: Place = { namespace: cursorNamespace, level: 'QUORUM' };
const cursorLifeMs = 10 * 60_000;
const defaultCount = 10;
const countMax = 1000;
/** Keys that KEYS gives out at most. */
const keysMax = 100_000;

const distinct = (keys: readonly Uint8Array[]): Uint8Array[] => [
  ...new Map(keys.map((key) => [latin1(key), key])).values(),
];

const del: RespHandler = (call, { keys }) =>
  keys.writeAll(call, distinct(call.args.slice(1)).map(removal), (existed) => call.answer(existed));

/** A key that is named twice counts twice. */
const exists: RespHandler = (call, { keys }) =>
  keys.readAll(call, call.args.slice(1), (records) =>
    call.answer(records.filter((record) => record !== undefined).length),
  );

const type: RespHandler = (call, { keys }) =>
  keys.read(call, call.arg(1), (record) =>
    call.answer(status(record === undefined ? 'none' : 'string')),
  );

// ---- time to live --------------------------------------------------------------------------

const noKey = -2;
const noExpiry = -1;

/** TTL and its family: `figure` of when the key expires and the time now. */
const expiryFigure =
  (figure: (expiresAt: number, nowMs: number) => number): RespHandler =>
  (call, { keys }) =>
    keys.read(call, call.arg(1), (record, nowMs) => {
      if (record === undefined) return call.answer(noKey);
      const expiresAt = recordExpiresAt(record);
      call.answer(expiresAt === 0 ? noExpiry : figure(expiresAt, nowMs));
    });

const conditions: ReadonlySet<string> = new Set<ExpiryWord>(['nx', 'xx', 'gt', 'lt']);

/** The conditions of EXPIRE; a text is the error that they are. */
function parseConditions(call: RespCall): readonly ExpiryWord[] | string {
  const found = call.args.slice(3).map(wordOf);
  const unknown = found.findIndex((word) => !conditions.has(word));
  if (unknown >= 0) return `ERR Unsupported option ${found[unknown] ?? ''}`;
  if (found.includes('nx') && found.length > 1)
    return 'ERR NX and XX, GT or LT options at the same time are not compatible';
  if (found.includes('gt') && found.includes('lt'))
    return 'ERR GT and LT options at the same time are not compatible';
  return found as ExpiryWord[];
}

const expire =
  (kind: 'relative' | 'absolute', unitMs: number): RespHandler =>
  (call, services) => {
    const count = integerOf(call.arg(2));
    if (count === undefined) return call.answer(notInteger);
    const wanted = parseConditions(call);
    if (typeof wanted === 'string') return call.answer(errorReply(wanted));
    const ms = count * unitMs;
    const nowMs = Math.floor(services.ctx.clock.wallMicros() / 1000);
    const ttlMs = ttlOf({ kind, ms }, nowMs, services.settings.limits.ttlSecondsMax);
    if (ttlMs === undefined || !Number.isSafeInteger(ms))
      return call.answer(errorReply(`ERR invalid expire time in '${call.spec.name}' command`));
    // A time that is over is told as a moment that is over for every clock: the key is deleted.
    const life =
      kind === 'relative' && ms > 0
        ? { ttlMs: ms, expiresAt: 0 }
        : { ttlMs: 0, expiresAt: kind === 'relative' ? 1 : Math.max(1, ms) };
    applyLife(call, services, { kind: 'expire', words: wanted, ...life });
  };

const persist: RespHandler = (call, services) =>
  applyLife(call, services, { kind: 'expire', words: ['xx'], ttlMs: 0, expiresAt: 0 });

function applyLife(call: RespCall, services: RespServices, change: SerialChange): void {
  const what = call.spec.name.toUpperCase();
  applySerial(call, services, change, what, ({ isApplied }) => (isApplied ? 1 : 0));
}

// ---- pages of keys -------------------------------------------------------------------------

/** The level of a page: that of the connection, or the node's where that one is decided. */
export const pageLevelOf = ({ readLevel }: RespCall, { settings }: RespServices): Level =>
  countedLevel(readLevel, settings.defaults.readLevel);

/** One page of keys, at the level of a page, or higher where the session asks for it. */
export function scanPage(
  call: RespCall,
  services: RespServices,
  page: { prefix: Uint8Array; after: Uint8Array | undefined; limit: number },
  found: (reply: ScanReply) => void,
): void {
  const { ctx, anyCoordinator, guard } = services;
  const { namespace, session } = call;
  const usual = pageLevelOf(call, services);
  const level = session?.pageLevel(usual) ?? usual;
  guard.admit(namespace, (refusal) => {
    if (refusal !== undefined) return fail(call, refusal);
    const leftMs = call.deadlineMs - ctx.clock.monotonicMs();
    ctx.ask(anyCoordinator(), 'scan', { namespace, level, ...page }, leftMs, (problem, reply) => {
      if (reply === undefined) fail(call, finalFailure('read', problem ?? failure('BUG')));
      else {
        session?.sawPage(reply.records, level);
        found(reply);
      }
    });
  });
}

interface ScanOptions {
  pattern: Glob | undefined;
  count: number;
  /** Every value is a string: of another type there is no key. */
  isOtherType: boolean;
}

function parseScanOptions(call: RespCall): ScanOptions | Reply {
  const options: ScanOptions = { pattern: undefined, count: defaultCount, isOtherType: false };
  for (let at = 2; at < call.args.length; at += 2) {
    const value = call.args[at + 1];
    const word = wordOf(call.arg(at));
    if (value === undefined) return syntaxError;
    if (word === 'match') options.pattern = new Glob(value);
    else if (word === 'count') {
      const count = integerOf(value);
      if (count === undefined) return notInteger;
      if (count < 1) return syntaxError;
      options.count = Math.min(count, countMax);
    } else if (word === 'type') options.isOtherType = wordOf(value) !== 'string';
    else return syntaxError;
  }
  return options;
}

const isScanOptions = (value: ScanOptions | Reply): value is ScanOptions =>
  typeof value === 'object' && value !== null && 'count' in value;

const scan: RespHandler = (call, services) => {
  const options = parseScanOptions(call);
  if (!isScanOptions(options)) return call.answer(options);
  const cursor = latin1(call.arg(1));
  if (!/^(0|[1-9]\d{0,19})$/.test(cursor)) return call.answer(errorReply('ERR invalid cursor'));
  if (options.isOtherType) return call.answer(['0', []]);
  openCursor(call, services, cursor, (after) => {
    const prefix = options.pattern?.prefix ?? noBytes;
    scanPage(call, services, { prefix, after, limit: options.count }, ({ records, next }) => {
      const found = matching(records, options.pattern);
      if (next === undefined) call.answer(['0', found]);
      else saveCursor(call, services, next, (id) => call.answer([id, found]));
    });
  });
};

function matching(
  records: readonly Uint8Array[],
  pattern: Glob | undefined,
): readonly Uint8Array[] {
  const found = records.map((record) => recordUserKey(record));
  return pattern === undefined ? found : found.filter((key) => pattern.matches(key));
}

const cursorKey = (id: string): Uint8Array =>
  Uint8Array.from(`scan:${id}`, (character) => character.charCodeAt(0));

function saveCursor(
  call: RespCall,
  services: RespServices,
  last: Uint8Array,
  saved: (id: string) => void,
): void {
  // 53 random bits: unique for ten minutes, and safe where a client makes a double of it.
  const { random } = services.ctx;
  const id = String(random.int(2 ** 26) * 2 ** 27 + random.int(2 ** 27) + 1);
  const { keys } = services;
  // The scanned namespace is in front of the key: the cursor goes on with no other.
  const { namespace } = call;
  const value = new Uint8Array(4 + last.length);
  new DataView(value.buffer).setUint32(0, namespace);
  value.set(last, 4);
  const item = bytesValue(cursorKey(id), value, cursorLifeMs);
  keys.writeTo(call, cursorPlace, item, () => saved(id));
}

function openCursor(
  call: RespCall,
  { keys }: RespServices,
  id: string,
  opened: (after: Uint8Array | undefined) => void,
): void {
  if (id === '0') return opened(undefined);
  keys.readFrom(call, cursorPlace, cursorKey(id), (record) => {
    const value = record === undefined ? undefined : recordValue(record);
    const isOurs =
      value !== undefined &&
      new DataView(value.buffer, value.byteOffset).getUint32(0) === call.namespace;
    if (isOurs) opened(value.slice(4));
    else call.answer(errorReply('ERR invalid cursor'));
  });
}

const keysCommand: RespHandler = (call, services) => {
  const pattern = new Glob(call.arg(1));
  const { prefix } = pattern;
  const found: Uint8Array[] = [];
  let bytes = 0;
  const step = (after: Uint8Array | undefined): void =>
    scanPage(call, services, { prefix, after, limit: countMax }, ({ records, next }) => {
      for (const key of matching(records, pattern)) {
        // The records hold whole pages of values: only the keys are kept.
        found.push(key.slice());
        bytes += key.length;
      }
      if (found.length > keysMax || bytes > answerBytesMax) {
        const detail = `more than ${keysMax} keys match: use SCAN`;
        return fail(call, failure('TOO_LARGE', { detail }));
      }
      if (next === undefined) call.answer(found.sort(compareBytes));
      else step(next);
    });
  step(undefined);
};

// ---- others --------------------------------------------------------------------------------

/** Every write had its copies when it was acknowledged: there is nothing to wait for. */
const wait: RespHandler = (call, { ring }) => {
  const count = integerOf(call.arg(1));
  const timeoutMs = integerOf(call.arg(2));
  if (count === undefined || timeoutMs === undefined) return call.answer(notInteger);
  if (timeoutMs < 0) return call.answer(errorReply('ERR timeout is negative'));
  call.answer(requiredAcks(call.writeLevel, ring.replicationFactor) - 1);
};

const memory: RespHandler = (call, { keys }) => {
  const word = wordOf(call.arg(1));
  if (word === 'help' || call.args[2] === undefined || word !== 'usage')
    return call.answer(errorReply(`ERR unknown subcommand '${word}'. Try MEMORY USAGE key.`));
  keys.read(call, call.args[2], (record) =>
    call.answer(record === undefined ? null : record.length),
  );
};

export const genericHandlers: RespHandlers = {
  del,
  unlink: del,
  exists,
  touch: exists,
  type,
  ttl: expiryFigure((expiresAt, nowMs) => Math.floor((expiresAt - nowMs + 500) / 1000)),
  pttl: expiryFigure((expiresAt, nowMs) => Math.max(0, Math.floor(expiresAt - nowMs))),
  expiretime: expiryFigure((expiresAt) => Math.floor((expiresAt + 500) / 1000)),
  pexpiretime: expiryFigure((expiresAt) => expiresAt),
  expire: expire('relative', 1000),
  pexpire: expire('relative', 1),
  expireat: expire('absolute', 1000),
  pexpireat: expire('absolute', 1),
  persist,
  scan,
  keys: keysCommand,
  wait,
  memory,
};
