// The types of the client library: what calls take and what they give. Figures are as the HTTP face
// has them: times in milliseconds since 1970, times to live in whole seconds.

import type { ClientError } from './http-exchange.ts';
import type { Key, NamedKey } from './keys.ts';

/** Any JSON value, or bytes as they are. */
export type Value = unknown;

export interface CallOptions {
  /** A level of docs/consistency.md; default: that of the cluster. */
  readonly level?: string;
  /** Over all attempts, milliseconds. */
  readonly deadlineMs?: number;
  readonly signal?: AbortSignal;
}

/** Makes a write a serial operation: it is done only if this holds, else CONFLICT. */
export interface WriteCondition {
  /** Only where there is a value. */
  readonly ifExists?: boolean;
  /** Only where the etag is this one. */
  readonly ifMatch?: string;
}

export interface WriteOptions extends CallOptions, WriteCondition {
  /** At most 64 bytes: a serial operation with the same id is done once. Default: a new one. */
  readonly requestId?: string;
  /** In a namespace that keeps siblings: of the `siblings` that this write takes the place of. */
  readonly context?: string;
}

export interface PutOptions extends WriteOptions {
  /** Whole seconds, 1 or more; default: never expires. */
  readonly ttlSeconds?: number;
  /** Only where there is no value. */
  readonly ifNotExists?: boolean;
}

/** What a compare-and-set expects: exactly one of the three. */
export interface Expected {
  /** 0: there is no value. */
  readonly version?: number;
  readonly etag?: string;
  /** The same JSON value, as it was written. */
  readonly value?: Value;
}

export interface CasOptions extends CallOptions {
  readonly ttlSeconds?: number;
  readonly requestId?: string;
}

/** `ok: false`: nothing was changed, and `current` is what is there instead, if anything. */
export type CasResult<V = Value> =
  | { readonly ok: true; readonly version: number; readonly etag: string }
  | {
      readonly ok: false;
      readonly current: { readonly value: V; readonly version: number } | undefined;
    };

/** The values of a key that nobody has overwritten, in no order. */
export interface Siblings<V = Value> {
  /** Empty: there is nothing. */
  readonly values: readonly V[];
  /** For the `put` or `delete` that takes their place; empty: there is nothing to replace. */
  readonly context: string;
}

export interface Written {
  readonly version: number;
  readonly etag: string;
  /** Milliseconds since 1970. */
  readonly timestamp: number;
}

export interface Entry<V = Value> {
  /** Bytes where bytes were put, else the JSON value. */
  readonly value: V;
  readonly version: number;
  readonly etag: string;
  readonly timestamp: number;
  /** Whole seconds left; undefined: never expires. */
  readonly ttlRemaining: number | undefined;
}

/** A stored value as its bytes: JSON text exactly as it was put, or the bytes. */
export interface RawEntry extends Omit<Entry, 'value'> {
  readonly bytes: Buffer;
  readonly isJson: boolean;
}

export interface BatchOptions extends CallOptions {
  /**
   * All of it is written or nothing; not isolated. A ClientError UNKNOWN_OUTCOME whose problem says
   * `willComplete` is not over, and will be written. Default false.
   */
  readonly atomic?: boolean;
}

/** One operation of a batch: its outcome, or why there is none. */
export type Outcome<T> =
  | { readonly key: string; readonly ok: true; readonly result: T }
  | { readonly key: string; readonly ok: false; readonly error: ClientError };

export interface PutOperation {
  readonly key: Key;
  readonly value: Value;
  readonly ttlSeconds?: number;
  /** Only where there is no value: a serial operation. */
  readonly ifNotExists?: boolean;
}

export interface ListOptions extends CallOptions {
  readonly prefix?: Key;
  /** Keys asked for at a time, 1 to 1,000. Default 100. */
  readonly pageRows?: number;
}

export interface WatchOptions {
  readonly prefix?: Key;
  /** Whether puts bring their values. Default true. */
  readonly values?: boolean;
  /** Goes on after the event with this `id`; default: from now on. */
  readonly after?: string;
  /** Ends the watch with its reason. */
  readonly signal?: AbortSignal;
}

interface Change extends NamedKey {
  readonly version: number;
  readonly etag: string;
  /** Of the write, milliseconds since 1970; of an expiry: of the put that has expired. */
  readonly timestamp: number;
  /** The watch goes on after here: `after`. */
  readonly id: string;
}

/**
 * `ready`: from now on everything is told. `reset`: something may have been missed; list the keys
 * again, what happens from now on is told.
 */
export type WatchEvent =
  | (Change & {
      readonly type: 'put';
      /** Undefined where values were not asked for. */
      readonly value: Value;
      /** Milliseconds since 1970; undefined: never. */
      readonly expiresAt: number | undefined;
    })
  | (Change & { readonly type: 'delete' | 'expire' })
  | { readonly type: 'ready'; readonly id: string }
  | { readonly type: 'reset'; readonly id: string; readonly reason: string };

export interface ListedEntry extends NamedKey {
  readonly value: Value;
  readonly version: number;
  readonly ttlRemaining: number | undefined;
}
