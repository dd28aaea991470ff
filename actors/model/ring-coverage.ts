// How many replicas of each range of the ring count, as nodes are added and removed one by one: so
// that whoever waits for answers of many nodes needs not go through all ranges after each of them. A
// node that is added or removed costs as much as it has replica lists. Pure.

import { assert } from '../../runtime/errors.ts';
import type { Ring } from './ring.ts';

export class RingCoverage {
  readonly #ring: Ring;
  readonly #required: number;
  /** Nodes that count, by replica list. */
  readonly #counts: Uint16Array;
  #uncovered: number;

  /** `required`: replicas that a range needs, at least 1. */
  constructor(ring: Ring, required: number) {
    assert(required >= 1, 'a range that needs no replica');
    this.#ring = ring;
    this.#required = required;
    this.#counts = new Uint16Array(ring.replicaLists().length);
    this.#uncovered = this.#counts.length;
  }

  /** Every range has enough replicas. */
  get isWhole(): boolean {
    return this.#uncovered === 0;
  }

  /** A node counts from now on; one that counts already must not be added. */
  add(node: string): void {
    for (const list of this.#ring.listsOf(node)) {
      const count = (this.#counts[list] as number) + 1;
      this.#counts[list] = count;
      if (count === this.#required) this.#uncovered -= 1;
    }
  }

  /** Takes back an `add`. */
  remove(node: string): void {
    for (const list of this.#ring.listsOf(node)) {
      const count = this.#counts[list] as number;
      this.#counts[list] = count - 1;
      if (count === this.#required) this.#uncovered += 1;
    }
  }

  /** How many replicas count in the first range that has too few; undefined: none has. */
  firstShort(): number | undefined {
    return this.isWhole ? undefined : this.#counts.find((count) => count < this.#required);
  }
}
