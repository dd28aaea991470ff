// A cache in the memory of each process, kept right by a watch: what another process writes is
// dropped here at once. When the watch says that it may have missed something, all is dropped.

import type { KvdClient } from '../../cli/client/kvd-client.ts';

export class WatchedCache<V> {
  readonly #kvd: KvdClient;
  readonly #prefix: string;
  readonly #held = new Map<string, V>();
  readonly #end = new AbortController();
  #isWatching = false;
  /** Drops so far: a read that began before one does not fill the cache. */
  #drops = 0;
  hits = 0;

  constructor(kvd: KvdClient, prefix: string) {
    this.#kvd = kvd;
    this.#prefix = prefix;
    void this.#follow();
  }

  async get(key: string): Promise<V | undefined> {
    const held = this.#held.get(key);
    if (held !== undefined) {
      this.hits += 1;
      return held;
    }
    const drops = this.#drops;
    const value = (await this.#kvd.get<V>(`${this.#prefix}${key}`))?.value;
    if (value !== undefined && this.#isWatching && drops === this.#drops)
      this.#held.set(key, value);
    return value;
  }

  close(): void {
    this.#end.abort();
  }

  async #follow(): Promise<void> {
    try {
      for await (const event of this.#kvd.watch({
        prefix: this.#prefix,
        values: false,
        signal: this.#end.signal,
      })) {
        this.#drops += 1;
        this.#isWatching = true;
        if (event.type === 'ready' || event.type === 'reset') this.#held.clear();
        else this.#held.delete(event.key.slice(this.#prefix.length));
      }
    } catch {
      // Without a watch nothing may be kept: every read goes to the cluster.
      this.#isWatching = false;
      this.#held.clear();
    }
  }
}
