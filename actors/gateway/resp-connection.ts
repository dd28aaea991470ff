// What the gateway remembers of a Redis connection: protocol version, namespace, level, names. It
// lives as long as the socket; a gateway that restarts knows none, and the edge closes them.

import { isSerial, type Level } from '../model/consistency.ts';
import type { Login } from './access.ts';
import { KeptBytes } from './kept-bytes.ts';
import type { RespConnectionStart } from './protocol.ts';
import type { RespVersion } from './resp-replies.ts';
import type { Session } from './session.ts';
import type { CommandQueue, Watches } from './resp-transactions.ts';

export interface ConnectionDefaults {
  readonly namespace: number;
  readonly readLevel: Level;
  readonly writeLevel: Level;
}

/** CLIENT REPLY: `skip` is for the next command only. */
export type ReplyMode = 'on' | 'off' | 'skip';

export class RespConnection {
  readonly id: number;
  readonly remote: string;
  readonly local: string;
  readonly startedMs: number;
  readonly #defaults: ConnectionDefaults;
  readonly #kept: KeptBytes;
  #queuedBytes = 0;
  #watchedBytes = 0;
  #isClosed = false;
  version: RespVersion = 2;
  namespace: number;
  readLevel: Level;
  writeLevel: Level;
  replyMode: ReplyMode = 'on';
  /** Since MULTI. */
  transaction: CommandQueue | undefined = undefined;
  watches: Watches | undefined = undefined;
  /** Level SESSION: what it has seen and written. */
  session: Session | undefined = undefined;
  name = '';
  libraryName = '';
  libraryVersion = '';
  /** Who it speaks for; undefined: nobody has said. */
  login: Login | undefined = undefined;
  lastCommand = '';
  lastMs: number;
  /** Bytes of the largest answer lately: bounds how many commands run at the same time. */
  largestReply = 0;

  constructor(
    { connection, remote, local }: RespConnectionStart,
    defaults: ConnectionDefaults,
    nowMs: number,
    kept: KeptBytes = new KeptBytes(),
  ) {
    this.id = connection;
    this.remote = remote;
    this.local = local;
    this.startedMs = nowMs;
    this.lastMs = nowMs;
    this.#defaults = defaults;
    this.#kept = kept;
    this.namespace = defaults.namespace;
    this.readLevel = defaults.readLevel;
    this.writeLevel = defaults.writeLevel;
  }

  /** While it watches keys nothing older than what was watched may be read. */
  get levelOfReads(): Level {
    const level = this.readLevel;
    if (this.watches === undefined || isSerial(level) || level === 'ALL') return level;
    return 'QUORUM';
  }

  /** Until the transaction ends; false: there is no room for so much. */
  keepQueued(bytes: number): boolean {
    const isKept = this.#keep(bytes);
    if (isKept) this.#queuedBytes += bytes;
    return isKept;
  }

  /** Until the watches end, or the transaction does; false: there is no room for so much. */
  keepWatched(bytes: number): boolean {
    const isKept = this.#keep(bytes);
    if (isKept) this.#watchedBytes += bytes;
    return isKept;
  }

  #keep(bytes: number): boolean {
    const own = this.#queuedBytes + this.#watchedBytes + bytes;
    // What still runs of a connection that is gone keeps nothing that lasts.
    return this.#isClosed || this.#kept.take(bytes, own);
  }

  endWatches(): void {
    this.watches = undefined;
    this.dropWatched(this.#watchedBytes);
  }

  /** Of keys that are not watched after all. */
  dropWatched(bytes: number): void {
    if (this.#isClosed) return;
    this.#watchedBytes -= bytes;
    this.#kept.give(bytes);
  }

  /** As EXEC and DISCARD leave it. */
  endTransaction(): void {
    this.transaction = undefined;
    this.endWatches();
    if (this.#isClosed) return;
    this.#kept.give(this.#queuedBytes);
    this.#queuedBytes = 0;
  }

  /** The socket is gone. */
  closed(): void {
    this.endTransaction();
    this.#isClosed = true;
  }

  /** As RESET leaves it: as it began, except for what tells clients apart. */
  reset(): void {
    this.version = 2;
    this.namespace = this.#defaults.namespace;
    this.readLevel = this.#defaults.readLevel;
    this.writeLevel = this.#defaults.writeLevel;
    this.replyMode = 'on';
    this.name = '';
    this.login = undefined;
    this.session = undefined;
    this.endTransaction();
  }

  /** One line of CLIENT LIST. */
  describe(nowMs: number): string {
    const seconds = (sinceMs: number): number => Math.max(0, Math.floor((nowMs - sinceMs) / 1000));
    return [
      `id=${this.id}`,
      `addr=${this.remote}`,
      `laddr=${this.local}`,
      `name=${this.name}`,
      `age=${seconds(this.startedMs)}`,
      `idle=${seconds(this.lastMs)}`,
      `flags=${this.transaction === undefined ? 'N' : 'x'}`,
      `db=${this.namespace}`,
      `multi=${this.transaction?.commands.length ?? -1}`,
      `watch=${this.watches?.keys.size ?? 0}`,
      `resp=${this.version}`,
      `cmd=${this.lastCommand === '' ? 'NULL' : this.lastCommand}`,
      `user=${this.login?.user ?? 'default'}`,
      `lib-name=${this.libraryName}`,
      `lib-ver=${this.libraryVersion}`,
      `level=${this.readLevel === this.writeLevel ? this.readLevel : `${this.readLevel}/${this.writeLevel}`}`,
    ].join(' ');
  }
}
