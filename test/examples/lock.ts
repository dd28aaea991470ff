// A lock with a lease, and with fencing: each holder gets a number that is higher than that of every
// holder before it, and hands it to whatever the lock protects. A holder that was paused past its
// lease has a number that is too low by then; without it a lease alone protects nothing
// (Kleppmann, "How to do distributed locking", 2016).

import { randomUUID } from 'node:crypto';
import type { KvdClient } from '../../cli/client/kvd-client.ts';

export interface Lease {
  readonly name: string;
  readonly holder: string;
  /** Hand it to what the lock protects: it refuses numbers below the highest it has seen. */
  readonly fence: number;
}

export class Locks {
  readonly #kvd: KvdClient;
  readonly #leaseSeconds: number;

  constructor(kvd: KvdClient, leaseSeconds: number) {
    this.#kvd = kvd;
    this.#leaseSeconds = leaseSeconds;
  }

  /** Undefined: somebody else holds it. */
  async acquire(name: string): Promise<Lease | undefined> {
    const holder = randomUUID();
    // The number first: a later holder always gets a higher one. Numbers may be left out.
    const { value: fence } = await this.#kvd.incr(`fence:${name}`);
    const lease = { name, holder, fence };
    const taken = await this.#kvd.putIfAbsent(`lock:${name}`, { holder, fence }, this.#ttl());
    return taken === undefined ? undefined : lease;
  }

  /** Holds it for another lease; false where it was lost. */
  async renew({ name, holder, fence }: Lease): Promise<boolean> {
    const value = { holder, fence };
    return (await this.#kvd.cas(`lock:${name}`, { value }, value, this.#ttl())).ok;
  }

  /** False where it was lost before. */
  async release({ name, holder }: Lease): Promise<boolean> {
    const entry = await this.#kvd.getSerial<Lease>(`lock:${name}`);
    if (entry?.value.holder !== holder) return false;
    return this.#kvd.deleteIf(`lock:${name}`, entry.etag);
  }

  #ttl(): { readonly ttlSeconds: number } {
    return { ttlSeconds: this.#leaseSeconds };
  }
}

/** What a lock protects, as it has to be: it takes no orders from a holder of before. */
export class FencedRegister {
  #highest = 0;
  value = '';

  write(fence: number, value: string): boolean {
    if (fence < this.#highest) return false;
    this.#highest = fence;
    this.value = value;
    return true;
  }
}
