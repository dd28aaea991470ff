// Which key a request of a load takes. Numbers from 0 to below the count of records:
//
//   uniform   every record alike
//   zipfian   few records very often: the i-th most popular with a probability of about 1/i^0.99;
//             popularity is scattered over the records, so that hot keys are no neighbours
//   latest    as zipfian, the newest records the most popular
//
// Zipfian numbers after Gray et al., "Quickly Generating Billion-Record Synthetic Databases"
// (SIGMOD 1994), with the constant of YCSB (Cooper et al., SoCC 2010).

import { fingerprint32PureText } from '../../runtime/fingerprint32.ts';
import type { Prng } from '../../runtime/prng.ts';

export const keyDistributions = ['uniform', 'zipfian', 'latest'] as const;
export type KeyDistribution = (typeof keyDistributions)[number];

const theta = 0.99;

/** Ranks from 0, the most popular first. */
class Zipf {
  readonly #random: Prng;
  #count = 0;
  #zeta = 0;
  #eta = 0;
  readonly #zetaOf2 = 1 + 0.5 ** theta;
  readonly #alpha = 1 / (1 - theta);

  constructor(random: Prng) {
    this.#random = random;
  }

  next(count: number): number {
    this.#grow(count);
    const u = this.#random.float();
    const uz = u * this.#zeta;
    if (uz < 1) return 0;
    if (uz < this.#zetaOf2) return Math.min(1, count - 1);
    const rank = Math.floor(count * (this.#eta * u - this.#eta + 1) ** this.#alpha);
    return Math.min(rank, count - 1);
  }

  /** The sum over all ranks grows with the records; what was summed stays. */
  #grow(count: number): void {
    if (count === this.#count) return;
    if (count < this.#count) {
      this.#count = 0;
      this.#zeta = 0;
    }
    for (let i = this.#count + 1; i <= count; i += 1) this.#zeta += 1 / i ** theta;
    this.#count = count;
    this.#eta = (1 - (2 / count) ** (1 - theta)) / (1 - this.#zetaOf2 / this.#zeta);
  }
}

/** `next` gives a record of the `count` that there are, 1 or more. */
export interface KeyChooser {
  readonly next: (count: number) => number;
}

export function createChooser(distribution: KeyDistribution, random: Prng): KeyChooser {
  if (distribution === 'uniform') return { next: (count) => random.int(count) };
  const zipf = new Zipf(random);
  if (distribution === 'latest') return { next: (count) => count - 1 - zipf.next(count) };
  return { next: (count) => fingerprint32PureText(String(zipf.next(count))) % count };
}
