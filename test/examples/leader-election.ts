// One leader among candidates: whoever holds the key. It renews its term before that ends, and steps
// down by itself where it cannot. A new leader's term number is higher than all before it.

import type { KvdClient } from '../../cli/client/kvd-client.ts';

interface Term {
  readonly leader: string;
  readonly number: number;
}

export class Candidate {
  readonly id: string;
  readonly #kvd: KvdClient;
  readonly #group: string;
  readonly #termSeconds: number;
  #term: Term | undefined;

  constructor(kvd: KvdClient, id: string, group: string, termSeconds: number) {
    this.id = id;
    this.#kvd = kvd;
    this.#group = group;
    this.#termSeconds = termSeconds;
  }

  /** The number of the term that it leads; undefined: it does not. */
  get leads(): number | undefined {
    return this.#term?.number;
  }

  /** Call it a few times in each term: renews the own term, or begins one where there is none. */
  async campaign(): Promise<boolean> {
    this.#term = this.#term === undefined ? await this.#begin() : await this.#renew(this.#term);
    return this.#term !== undefined;
  }

  /** Who leads now. */
  async leader(): Promise<string | undefined> {
    return (await this.#kvd.getSerial<Term>(`leader:${this.#group}`))?.value.leader;
  }

  async resign(): Promise<void> {
    this.#term = undefined;
    const entry = await this.#kvd.getSerial<Term>(`leader:${this.#group}`);
    if (entry?.value.leader === this.id)
      await this.#kvd.deleteIf(`leader:${this.#group}`, entry.etag);
  }

  async #begin(): Promise<Term | undefined> {
    if ((await this.leader()) !== undefined) return undefined;
    const { value: number } = await this.#kvd.incr(`term:${this.#group}`);
    const term = { leader: this.id, number };
    const options = { ttlSeconds: this.#termSeconds };
    const begun = await this.#kvd.putIfAbsent(`leader:${this.#group}`, term, options);
    return begun === undefined ? undefined : term;
  }

  async #renew(term: Term): Promise<Term | undefined> {
    const options = { ttlSeconds: this.#termSeconds };
    const { ok } = await this.#kvd.cas(`leader:${this.#group}`, { value: term }, term, options);
    return ok ? term : undefined;
  }
}
