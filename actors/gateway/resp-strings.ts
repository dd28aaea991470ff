// Commands on values: GET and SET with their family. What has to read a key before it writes it
// (conditions, counters, GETDEL, GETEX, KEEPTTL) goes to serial-operations.ts: one decision.

import { failure } from '../../runtime/errors.ts';
import { latin1, noBytes } from '../../runtime/bytes.ts';
import { recordValue, recordValueLength } from '../model/record.ts';
import { integerOf, type RespCall, wordOf } from './resp-call.ts';
import { bytesValue, fail, refusalOf, removal } from './resp-keys.ts';
import { errorReply, notInteger, ok, type Reply, syntaxError } from './resp-replies.ts';
import type { RespHandler, RespHandlers, RespServices } from './resp-services.ts';
import type { SerialChange, SerialOutcome } from './serial-operations.ts';

/** When a value expires, as an option says it. */
type Expiry =
  | { readonly kind: 'never' | 'keep' }
  | { readonly kind: 'relative' | 'absolute'; readonly ms: number };

const never: Expiry = { kind: 'never' };

/** Options of time: unit in milliseconds, and whether it counts from now. */
const timeOptions: Readonly<Record<string, readonly ['relative' | 'absolute', number]>> = {
  ex: ['relative', 1000],
  px: ['relative', 1],
  exat: ['absolute', 1000],
  pxat: ['absolute', 1],
};

const nowMsOf = ({ ctx }: RespServices): number => Math.floor(ctx.clock.wallMicros() / 1000);

const invalidExpiry = ({ spec }: RespCall): Reply =>
  errorReply(`ERR invalid expire time in '${spec.name}' command`);

/** Milliseconds from now; 0 or less: it is over. Undefined: beyond what is taken. */
export function ttlOf(
  expiry: { readonly kind: 'relative' | 'absolute'; readonly ms: number },
  nowMs: number,
  secondsMax: number,
): number | undefined {
  const ttlMs = expiry.kind === 'relative' ? expiry.ms : expiry.ms - nowMs;
  return ttlMs > secondsMax * 1000 ? undefined : ttlMs;
}

interface SetOptions {
  expiry: Expiry;
  condition: 'none' | 'absent' | 'present';
  returnsOld: boolean;
}

/** Options after key and value; a reply is the error that they are. */
function parseSetOptions(call: RespCall): SetOptions | Reply {
  const options: SetOptions = { expiry: never, condition: 'none', returnsOld: false };
  const { args } = call;
  for (let at = 3; at < args.length; at += 1) {
    const word = wordOf(call.arg(at));
    const time = Object.hasOwn(timeOptions, word) ? timeOptions[word] : undefined;
    if (time !== undefined) {
      at += 1;
      const problem = readExpiry(call, time, at, options);
      if (problem !== undefined) return problem;
    } else if (!takeWord(word, options)) return syntaxError;
  }
  return options;
}

/** An option of one word; false: it is none, or contradicts another. */
function takeWord(word: string, options: SetOptions): boolean {
  if (word === 'keepttl' && options.expiry === never) options.expiry = { kind: 'keep' };
  else if (word === 'get' && !options.returnsOld) options.returnsOld = true;
  else if ((word === 'nx' || word === 'xx') && options.condition === 'none')
    options.condition = word === 'nx' ? 'absent' : 'present';
  else return false;
  return true;
}

function readExpiry(
  call: RespCall,
  [kind, unitMs]: readonly ['relative' | 'absolute', number],
  at: number,
  options: { expiry: Expiry },
): Reply | undefined {
  const text = call.args[at];
  if (text === undefined || options.expiry !== never) return syntaxError;
  const count = integerOf(text);
  if (count === undefined) return notInteger;
  const ms = count * unitMs;
  if (count <= 0 || !Number.isSafeInteger(ms)) return invalidExpiry(call);
  options.expiry = { kind, ms };
  return undefined;
}

const set: RespHandler = (call, services) => {
  const key = call.arg(1);
  const value = call.arg(2);
  // The plain form is the hot one.
  if (call.args.length === 3)
    return services.keys.write(call, bytesValue(key, value), () => call.answer(ok));
  const options = parseSetOptions(call);
  if (!isOptions(options)) return call.answer(options);
  const { expiry, condition, returnsOld } = options;
  const ttlMs = fixedTtl(call, services, expiry);
  if (ttlMs === undefined) return;
  const keepsTtl = expiry.kind === 'keep';
  if (condition !== 'none' || returnsOld || keepsTtl) {
    const change: SerialChange = { kind: 'set', value, condition, keepsTtl, ...lifeOf(expiry) };
    const what = keepsTtl ? 'KEEPTTL' : returnsOld ? 'GET' : condition;
    return applySerial(call, services, change, `SET ${what}`, ({ isApplied, before }) => {
      if (returnsOld) return before ?? null;
      return isApplied ? ok : null;
    });
  }
  // A moment that is over: the key is gone at once.
  const item =
    expiry.kind === 'absolute' && ttlMs <= 0 ? removal(key) : bytesValue(key, value, ttlMs);
  services.keys.write(call, item, () => call.answer(ok));
};

/** What a serial change is told: a moment as it is, so that no clock is added to it. */
const lifeOf = (expiry: Expiry): { readonly ttlMs: number; readonly expiresAt: number } => ({
  ttlMs: expiry.kind === 'relative' ? expiry.ms : 0,
  expiresAt: expiry.kind === 'absolute' ? expiry.ms : 0,
});

/** Milliseconds to live as far as the options alone say; the call is answered where they are wrong. */
function fixedTtl(call: RespCall, services: RespServices, expiry: Expiry): number | undefined {
  if (!('ms' in expiry)) return 0;
  const ttlMs = ttlOf(expiry, nowMsOf(services), services.settings.limits.ttlSecondsMax);
  if (ttlMs === undefined) call.answer(invalidExpiry(call));
  return ttlMs;
}

const isOptions = (value: SetOptions | Reply): value is SetOptions =>
  typeof value === 'object' && value !== null && 'expiry' in value;

/** SETEX and PSETEX: key, time, value. */
const setWithTime =
  (unitMs: number): RespHandler =>
  (call, services) => {
    const count = integerOf(call.arg(2));
    if (count === undefined) return call.answer(notInteger);
    const ms = count * unitMs;
    const secondsMax = services.settings.limits.ttlSecondsMax;
    if (count <= 0 || ms > secondsMax * 1000) return call.answer(invalidExpiry(call));
    const item = bytesValue(call.arg(1), call.arg(3), ms);
    services.keys.write(call, item, () => call.answer(ok));
  };

const get: RespHandler = (call, { keys }) =>
  keys.read(call, call.arg(1), (record) =>
    call.answer(record === undefined ? null : recordValue(record)),
  );

const getdel: RespHandler = (call, services) =>
  applySerial(
    call,
    services,
    { kind: 'delete', expected: undefined },
    upper(call),
    ({ before }) => before ?? null,
  );

/** DELEX key [IFEQ value]: compare-and-delete, as a lock is given back. */
const delex: RespHandler = (call, services) => {
  const { args } = call;
  const isPlain = args.length === 2;
  if (!isPlain && (args.length !== 4 || wordOf(call.arg(2)) !== 'ifeq'))
    return call.answer(syntaxError);
  const change: SerialChange = { kind: 'delete', expected: isPlain ? undefined : call.arg(3) };
  applySerial(call, services, change, upper(call), ({ isApplied }) => (isApplied ? 1 : 0));
};

const getex: RespHandler = (call, services) => {
  if (call.args.length === 2) return get(call, services);
  const options = { expiry: never as Expiry };
  const word = wordOf(call.arg(2));
  const time = Object.hasOwn(timeOptions, word) ? timeOptions[word] : undefined;
  if (call.args.length !== (time === undefined ? 3 : 4)) return call.answer(syntaxError);
  if (time === undefined && word !== 'persist') return call.answer(syntaxError);
  const problem = time === undefined ? undefined : readExpiry(call, time, 3, options);
  if (problem !== undefined) return call.answer(problem);
  const ttlMs = fixedTtl(call, services, options.expiry);
  if (ttlMs === undefined) return;
  // PERSIST of a key that lives for ever changes nothing.
  const words = time === undefined ? (['xx'] as const) : [];
  const change: SerialChange = { kind: 'expire', words, ...lifeOf(options.expiry) };
  applySerial(call, services, change, upper(call), ({ before }) => before ?? null);
};

const mget: RespHandler = (call, { keys }) =>
  keys.readAll(call, call.args.slice(1), (records) =>
    call.answer(records.map((record) => (record === undefined ? null : recordValue(record)))),
  );

const mset: RespHandler = (call, { keys }) => {
  const { args } = call;
  if (args.length % 2 === 0)
    return call.answer(errorReply(`ERR wrong number of arguments for '${call.spec.name}' command`));
  // The last value of a key that is named twice counts.
  const items = new Map<string, ReturnType<typeof bytesValue>>();
  for (let at = 1; at < args.length; at += 2)
    items.set(latin1(call.arg(at)), bytesValue(call.arg(at), call.arg(at + 1)));
  keys.writeAll(call, [...items.values()], () => call.answer(ok));
};

const strlen: RespHandler = (call, { keys }) =>
  keys.read(call, call.arg(1), (record) =>
    call.answer(record === undefined ? 0 : recordValueLength(record)),
  );

const getrange: RespHandler = (call, { keys }) => {
  const first = integerOf(call.arg(2));
  const last = integerOf(call.arg(3));
  if (first === undefined || last === undefined) return call.answer(notInteger);
  keys.read(call, call.arg(1), (record) => {
    const value = record === undefined ? noBytes : recordValue(record);
    const { length } = value;
    const start = Math.max(0, first < 0 ? first + length : first);
    // As Redis 7: an end before the beginning is the first byte, unless both ends are backwards.
    const end = Math.min(length - 1, Math.max(0, last < 0 ? last + length : last));
    const isBackwards = first < 0 && last < 0 && first > last;
    call.answer(isBackwards || start > end ? noBytes : value.subarray(start, end + 1));
  });
};

// ---- serial --------------------------------------------------------------------------------

/** Decides a change of the key at 1; a key that cannot be is refused as plain commands refuse it. */
export function applySerial(
  call: RespCall,
  { serial, settings }: RespServices,
  change: SerialChange,
  what: string,
  render: (outcome: SerialOutcome) => Reply,
): void {
  const request = { call, key: call.arg(1), change };
  const refusal = refusalOf(settings.limits, request.key);
  if (refusal !== undefined) return fail(call, refusal);
  serial.change(request, what, call.deadlineMs, (problem, outcome) => {
    if (outcome === undefined) fail(call, problem ?? failure('BUG'));
    else call.answer(render(outcome));
  });
}

const upper = ({ spec }: RespCall): string => spec.name.toUpperCase();
const lengthAfter = ({ after }: SerialOutcome): number => after?.length ?? 0;

const setUnconditional = (value: Uint8Array, condition: 'none' | 'absent'): SerialChange => ({
  ...{ kind: 'set', value, ttlMs: 0, expiresAt: 0, keepsTtl: false },
  condition,
});

const setnx: RespHandler = (call, services) =>
  applySerial(call, services, setUnconditional(call.arg(2), 'absent'), upper(call), (outcome) =>
    outcome.isApplied ? 1 : 0,
  );

const getset: RespHandler = (call, services) =>
  applySerial(
    call,
    services,
    setUnconditional(call.arg(2), 'none'),
    upper(call),
    ({ before }) => before ?? null,
  );

/** `sign`: of the delta; the delta is the argument at 2, or one. */
const add =
  (sign: 1 | -1): RespHandler =>
  (call, services) => {
    const text = call.args[2];
    const count = text === undefined ? 1 : integerOf(text);
    if (count === undefined) return call.answer(notInteger);
    const change: SerialChange = { kind: 'add', delta: sign * count };
    applySerial(call, services, change, upper(call), ({ after }) =>
      after === undefined ? notInteger : (integerOf(after) ?? notInteger),
    );
  };

const incrbyfloat: RespHandler = (call, services) => {
  const text = latin1(call.arg(2));
  const delta = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(text) ? Number(text) : NaN;
  if (!Number.isFinite(delta)) return call.answer(errorReply('ERR value is not a valid float'));
  const change: SerialChange = { kind: 'add-float', delta };
  applySerial(call, services, change, upper(call), ({ after }) => after ?? null);
};

const append: RespHandler = (call, services) =>
  applySerial(call, services, { kind: 'append', value: call.arg(2) }, upper(call), lengthAfter);

const setrange: RespHandler = (call, services) => {
  const offset = integerOf(call.arg(2));
  if (offset === undefined) return call.answer(notInteger);
  if (offset < 0) return call.answer(errorReply('ERR offset is out of range'));
  // Nothing to write: nothing is created or padded.
  if (call.arg(3).length === 0) return strlen(call, services);
  const change: SerialChange = { kind: 'overwrite', offset, value: call.arg(3) };
  applySerial(call, services, change, upper(call), lengthAfter);
};

const cas: RespHandler = (call, services) =>
  applySerial(
    call,
    services,
    { kind: 'replace', expected: call.arg(2), value: call.arg(3) },
    upper(call),
    ({ isApplied }) => (isApplied ? 1 : 0),
  );

export const stringHandlers: RespHandlers = {
  get,
  set,
  setex: setWithTime(1000),
  psetex: setWithTime(1),
  getdel,
  delex,
  getex,
  mget,
  mset,
  strlen,
  getrange,
  substr: getrange,
  setnx,
  getset,
  append,
  setrange,
  incr: add(1),
  incrby: add(1),
  incrbyfloat,
  decr: add(-1),
  decrby: add(-1),
  'kv.cas': cas,
};
