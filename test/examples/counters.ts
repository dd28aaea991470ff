// Page views: exact, and in parts so that a page which everybody looks at is no single hot key. Each
// view goes to one part; the sum of the parts is the count.

import type { KvdClient } from '../../cli/client/kvd-client.ts';

export class PageViews {
  readonly #kvd: KvdClient;
  readonly #parts: number;
  #turn = 0;

  constructor(kvd: KvdClient, parts: number) {
    this.#kvd = kvd;
    this.#parts = parts;
  }

  async count(page: string): Promise<void> {
    this.#turn = (this.#turn + 1) % this.#parts;
    await this.#kvd.incr(`views:${page}:${this.#turn}`);
  }

  async total(page: string): Promise<number> {
    const keys = Array.from({ length: this.#parts }, (_, part) => `views:${page}:${part}`);
    const parts = await Promise.all(keys.map((key) => this.#kvd.getSerial<number>(key)));
    return parts.reduce((sum, part) => sum + (part?.value ?? 0), 0);
  }
}
