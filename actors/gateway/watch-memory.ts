// What a watch remembers of the keys that went through it, in bounded memory: the newest etag of
// each, so that the copies which the other replicas send are not told again and a key never goes
// back; and when its value expires, so that this can be told too.
//
// What is forgotten, the oldest first, may be told once more; its expiry is not told.

import { latin1 } from '../../runtime/bytes.ts';
import {
  compareEtags,
  recordEtag,
  recordExpiresAt,
  recordHeaderBytes,
  recordIsTombstone,
  recordKey,
} from '../model/record.ts';

const bytesMax = 1024 * 1024;
/** What a remembered key costs beside its bytes. */
const entryBytes = 160;

interface Seen {
  /** The record without its value: header and key. */
  readonly head: Uint8Array;
  /** Second in which it expires; undefined: never. */
  readonly second: number | undefined;
}

export class WatchMemory {
  readonly #seen = new Map<string, Seen>();
  readonly #expiring = new Map<number, Set<string>>();
  #bytes = 0;

  /** False where this record or a newer one of its key was told already. */
  isNews(record: Uint8Array): boolean {
    const key = recordKey(record);
    const name = latin1(key);
    const known = this.#seen.get(name);
    if (known !== undefined && compareEtags(recordEtag(record), recordEtag(known.head)) <= 0)
      return false;
    this.#forget(name);
    const expiresAt = recordIsTombstone(record) ? 0 : recordExpiresAt(record);
    const second = expiresAt === 0 ? undefined : Math.ceil(expiresAt / 1000);
    const head = record.slice(0, recordHeaderBytes + key.length);
    this.#seen.set(name, { head, second });
    this.#bytes += cost(name, head);
    if (second !== undefined) {
      const others = this.#expiring.get(second) ?? new Set();
      this.#expiring.set(second, others.add(name));
    }
    for (const oldest of this.#seen.keys()) {
      if (this.#bytes <= bytesMax) break;
      this.#forget(oldest);
    }
    return true;
  }

  /** Records whose values expired up to now and were not told yet. */
  takeExpired(nowMs: number): Uint8Array[] {
    const expired: Uint8Array[] = [];
    for (const [second, names] of this.#expiring) {
      if (second * 1000 > nowMs) continue;
      this.#expiring.delete(second);
      for (const name of names) {
        const seen = this.#seen.get(name);
        if (seen !== undefined) expired.push(seen.head);
      }
    }
    return expired;
  }

  clear(): void {
    this.#seen.clear();
    this.#expiring.clear();
    this.#bytes = 0;
  }

  #forget(name: string): void {
    const seen = this.#seen.get(name);
    if (seen === undefined) return;
    this.#seen.delete(name);
    this.#bytes -= cost(name, seen.head);
    if (seen.second === undefined) return;
    const others = this.#expiring.get(seen.second);
    others?.delete(name);
    if (others?.size === 0) this.#expiring.delete(seen.second);
  }
}

const cost = (name: string, head: Uint8Array): number => name.length + head.length + entryBytes;
