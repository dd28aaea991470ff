// Sessions of a web application: each lives for so long after its last use. A session is read and
// written through a kvd session, so that a request sees what the one before it has stored, through
// whichever node it goes.

import { randomUUID } from 'node:crypto';
import type { KvdClient } from '../../cli/client/kvd-client.ts';

export class SessionStore<Data> {
  readonly #kvd: KvdClient;
  readonly #ttlSeconds: number;

  constructor(kvd: KvdClient, ttlSeconds: number) {
    this.#kvd = kvd;
    this.#ttlSeconds = ttlSeconds;
  }

  /** Stores a new session; its id. */
  async create(data: Data): Promise<string> {
    const id = randomUUID();
    await this.#kvd.put(`session:${id}`, data, { ttlSeconds: this.#ttlSeconds });
    return id;
  }

  /** Changes a session and lets it live on; false where it has ended. */
  async update(id: string, change: (data: Data) => Data): Promise<boolean> {
    const key = `session:${id}`;
    for (;;) {
      const entry = await this.#kvd.getSerial<Data>(key);
      if (entry === undefined) return false;
      // Two requests of one session at the same time: neither may lose what the other one did.
      const { ok } = await this.#kvd.cas<Data>(key, { etag: entry.etag }, change(entry.value), {
        ttlSeconds: this.#ttlSeconds,
      });
      if (ok) return true;
    }
  }

  async read(id: string): Promise<Data | undefined> {
    return (await this.#kvd.get<Data>(`session:${id}`))?.value;
  }

  async end(id: string): Promise<void> {
    await this.#kvd.delete(`session:${id}`);
  }
}
