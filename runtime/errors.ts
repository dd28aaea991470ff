// The closed table of expected errors, and the two other kinds that are never expected.
//
// 1. KvError: expected; plain data { code, fields } on every wire. A new code is added only when
//    some caller can react to it in particular. `effect` says whether the operation may have
//    happened: 'none' means definitely not, 'unknown' means nobody can tell (rule ID-1, G17).
// 2. CorruptionError: bytes are not what they should be; names file and offset, never the value.
// 3. BugError: from assert; never caught, it ends the actor whose state can no longer be trusted.

export type ErrorEffect = 'none' | 'unknown';
export type ErrorRetry = 'now' | 'later' | 'never';

export interface ErrorRow {
  /** HTTP status of the problem document. */
  readonly status: number;
  /** First word of a Redis protocol error. */
  readonly resp: string;
  readonly retry: ErrorRetry;
  readonly effect: ErrorEffect;
  /** One sentence: what happened and what to do. */
  readonly title: string;
}

const row = (
  status: number,
  resp: string,
  retry: ErrorRetry,
  effect: ErrorEffect,
  title: string,
): ErrorRow => ({ status, resp, retry, effect, title });

export const errorTable = {
  BAD_REQUEST: row(400, 'ERR', 'never', 'none', 'The request is not valid; see which field.'),
  UNAUTHORIZED: row(401, 'NOAUTH', 'never', 'none', 'Credentials are missing or wrong.'),
  FORBIDDEN: row(403, 'NOPERM', 'never', 'none', 'The user has no role that allows this.'),
  NOT_FOUND: row(404, 'ERR', 'never', 'none', 'There is nothing under this name.'),
  NO_SUCH_NAMESPACE: row(404, 'ERR', 'never', 'none', 'There is no such namespace.'),
  METHOD_NOT_ALLOWED: row(405, 'ERR', 'never', 'none', 'This path does not take this method.'),
  CONFLICT: row(409, 'ERR', 'never', 'none', 'The condition does not hold.'),
  TOO_LARGE: row(413, 'ERR', 'never', 'none', 'A key, value or body is over its limit.'),
  UNSUPPORTED_MEDIA_TYPE: row(415, 'ERR', 'never', 'none', 'This content type is not taken here.'),
  WRONG_TYPE: row(422, 'ERR', 'never', 'none', 'The value is not of the kind that is needed.'),
  REQUEST_REUSED: row(422, 'ERR', 'never', 'none', 'The request id was used for another request.'),
  CONTENTION: row(503, 'TRYAGAIN', 'later', 'none', 'Others were faster until the deadline.'),
  SERIAL_KEY: row(409, 'ERR', 'later', 'none', 'Serial operations own this key.'),
  OVERLOADED: row(429, 'BUSY', 'later', 'none', 'A queue is full; slow down and try again.'),
  QUOTA_EXCEEDED: row(429, 'QUOTA', 'later', 'none', 'The namespace is over its quota.'),
  BUG: row(500, 'ERR', 'never', 'unknown', 'The server met a defect of its own.'),
  NOT_IMPLEMENTED: row(501, 'ERR', 'never', 'none', 'This is not implemented yet.'),
  UNAVAILABLE: row(503, 'CLUSTERDOWN', 'later', 'none', 'Too few replicas are alive.'),
  DRAINING: row(503, 'LOADING', 'later', 'none', 'The node is starting or stopping.'),
  DISK_FULL: row(503, 'OOM', 'later', 'none', 'The disk is full; reads go on.'),
  DISK_FAILED: row(503, 'MISCONF', 'later', 'unknown', 'The disk refused a write or a sync.'),
  CORRUPT: row(503, 'ERR', 'later', 'none', 'Stored bytes fail their checksum.'),
  DATA_REFUSED: row(503, 'ERR', 'never', 'none', 'The data directory is not of this node.'),
  CLOCK_SKEW: row(503, 'ERR', 'later', 'none', 'Clocks differ by more than the bound.'),
  FUTURE_VERSION: row(503, 'ERR', 'later', 'none', 'The stored version is too far ahead.'),
  SESSION_UNSATISFIED: row(
    503,
    'ERR',
    'later',
    'none',
    'No replica that answers has what this session has seen.',
  ),
  TIMEOUT: row(504, 'ERR', 'later', 'unknown', 'Not enough answers in time.'),
  UNKNOWN_OUTCOME: row(
    504,
    'ERR',
    'later',
    'unknown',
    'The operation may or may not have happened.',
  ),
  NOT_CONNECTED: row(503, 'ERR', 'later', 'none', 'There is no connection to the node.'),
  UNREACHABLE: row(503, 'ERR', 'later', 'unknown', 'The connection to the node ended.'),
  NO_SUCH_ACTOR: row(503, 'ERR', 'later', 'none', 'The node does not run this actor.'),
  WRONG_SHARD: row(503, 'ERR', 'later', 'none', 'Another shard of the node holds the key.'),
  ACTOR_RESTARTED: row(500, 'ERR', 'later', 'unknown', 'The actor failed on this message.'),
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof errorTable;
export type ErrorFields = Readonly<Record<string, string | number | boolean>>;

/** The wire form of an expected error. */
export interface Failure {
  readonly code: ErrorCode;
  readonly fields: ErrorFields;
}

export const failure = (code: ErrorCode, fields: ErrorFields = {}): Failure => ({ code, fields });

export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(errorTable, text);
}

/** One line for a person: the title, then the fields with their values. */
export function describeFailure({ code, fields }: Failure): string {
  const detail = fields['detail'];
  const rest = Object.entries(fields)
    .filter(([name]) => name !== 'detail')
    .map(([name, value]) => `${name}=${String(value)}`)
    .join(' ');
  const sentence = typeof detail === 'string' ? detail : errorTable[code].title;
  return rest === '' ? sentence : `${sentence} (${rest})`;
}

/** Thrown inside a session or a pure module for an expected error. */
export class KvError extends Error {
  readonly code: ErrorCode;
  readonly fields: ErrorFields;

  constructor(code: ErrorCode, fields: ErrorFields = {}) {
    super(`${code}: ${describeFailure({ code, fields })}`);
    this.name = 'KvError';
    this.code = code;
    this.fields = fields;
  }

  toFailure(): Failure {
    return { code: this.code, fields: this.fields };
  }
}

/** Stored bytes are not what was written. Carries where, never the bytes themselves. */
export class CorruptionError extends Error {
  readonly file: string;
  readonly offset: number;

  constructor(file: string, offset: number, what: string) {
    super(`corrupt data in ${file} at byte ${offset}: ${what}`);
    this.name = 'CorruptionError';
    this.file = file;
    this.offset = offset;
  }
}

/** A defect in this program. */
export class BugError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'BugError';
  }
}

/** Checked in production too (rule SIM-10): stopping beats continuing wrong. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new BugError(message);
}

export function assertNever(value: never): never {
  throw new BugError(`unexpected value ${String(value)}`);
}

/** The error that a failed call throws at its caller. */
export function errorOf({ code, fields }: Failure): KvError {
  return new KvError(code, fields);
}

/** Any thrown value as the failure that a caller is told. */
export function toFailure(error: unknown): Failure {
  if (error instanceof KvError) return error.toFailure();
  if (error instanceof CorruptionError)
    return failure('CORRUPT', {
      file: error.file,
      offset: error.offset,
      detail: error.message,
    });
  return failure('BUG', { detail: error instanceof Error ? error.message : String(error) });
}

/** Any thrown value for a log: in one line, and with its stack. */
export function describeThrown(error: unknown): { summary: string; stack: string } {
  const summary = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  const stack = error instanceof Error ? (error.stack ?? summary) : summary;
  return { summary: summary.split('\n', 1)[0] ?? summary, stack };
}
