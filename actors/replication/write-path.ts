// One write on its way through the replicas: acknowledgements and failures in, outcome out. Pure:
// the coordinator sends and this counts (WR-2, WR-4, ID-1).
//
//   open --acks reach required--------------------> acked
//   open --so many failed that it cannot any more--> refused   every failure had no effect
//                                              \--> unknown   somebody may have it

import { errorTable, type Failure, failure } from '../../runtime/errors.ts';

export type WriteOutcome =
  | { readonly kind: 'open' }
  | { readonly kind: 'acked' }
  | { readonly kind: 'failed'; readonly failure: Failure };

const open: WriteOutcome = { kind: 'open' };
const ackedOutcome: WriteOutcome = { kind: 'acked' };

export class WritePath {
  readonly #required: number;
  readonly #sent: number;
  #acked = 0;
  #failed = 0;
  #refusal: Failure | undefined;
  #effectPossible = false;

  /** `sent`: replicas that it goes to, at least `required`. */
  constructor(required: number, sent: number) {
    this.#required = required;
    this.#sent = sent;
  }

  get received(): number {
    return this.#acked;
  }

  acked(): WriteOutcome {
    this.#acked += 1;
    // Exactly at the threshold: an outcome is given once.
    return this.#acked === this.#required ? ackedOutcome : open;
  }

  failed(problem: Failure): WriteOutcome {
    this.#failed += 1;
    if (errorTable[problem.code].effect === 'none') this.#refusal ??= problem;
    else this.#effectPossible = true;
    if (this.#acked >= this.#required) return open;
    if (this.#sent - this.#failed !== this.#required - 1) return open;
    return { kind: 'failed', failure: this.#verdict() };
  }

  #verdict(): Failure {
    if (!this.#effectPossible && this.#acked === 0 && this.#failed === this.#sent)
      return this.#refusal ?? failure('UNAVAILABLE');
    return failure('TIMEOUT', { required: this.#required, received: this.#acked });
  }
}
