// One write on its way through the replicas: acknowledgements and failures in, outcome out. Pure:
// the coordinator sends and this counts (WR-2, WR-4, ID-1).
//
//   open --acks reach required--------------------> acked
//   open --so many failed that it cannot any more--> refused   all failed, none had an effect
//                                              \--> unknown   somebody may have it
//
// While all that is known are refusals without effect, the replicas that are still silent decide
// between the two, so it waits for them.

import { describeFailure, errorTable, type Failure, failure } from '../../runtime/errors.ts';

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
  #isGiven = false;

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
    return this.#outcome();
  }

  failed(problem: Failure): WriteOutcome {
    this.#failed += 1;
    if (problem.code === 'NO_SUCH_NAMESPACE') this.#refusal = problem;
    else if (errorTable[problem.code].effect === 'none') this.#refusal ??= problem;
    else this.#effectPossible = true;
    return this.#outcome();
  }

  /** An outcome is given once; `open` before and after it. */
  #outcome(): WriteOutcome {
    if (this.#isGiven) return open;
    if (this.#acked >= this.#required) {
      this.#isGiven = true;
      return ackedOutcome;
    }
    if (this.#sent - this.#failed >= this.#required) return open;
    const isRefused = this.#acked === 0 && !this.#effectPossible;
    if (isRefused && this.#failed < this.#sent) return open;
    this.#isGiven = true;
    const unknown = failure('TIMEOUT', { required: this.#required, received: this.#acked });
    return { kind: 'failed', failure: (isRefused ? this.#refusal : undefined) ?? unknown };
  }
}

/** Before anything is sent, an unknown effect is known after all: none. */
export function withoutEffect(problem: Failure): Failure {
  if (errorTable[problem.code].effect === 'none') return problem;
  return failure('UNAVAILABLE', { detail: `nothing was sent: ${describeFailure(problem)}` });
}
