// Which replicas of a write need a hint (HH-2): those that were not asked because they are down, and
// those that were asked and did not acknowledge. Pure: answers in, nodes out.
//
// A hint spreads a write; it must not make one. So nobody is named before some replica has
// acknowledged: a write that everyone refused has no effect, and that is what its client was told.

import type { Failure } from '../../runtime/errors.ts';

const nobody: readonly string[] = [];

export class MissedReplicas {
  #waiting: string[];
  #isHeld = false;

  /** `absent`: replicas that were not asked. */
  constructor(absent: readonly string[]) {
    this.#waiting = [...absent];
  }

  /** A replica has answered; the nodes that need a hint now. */
  answered(node: string, problem: Failure | undefined): readonly string[] {
    if (problem !== undefined && this.#isHeld) return [node];
    if (problem !== undefined) {
      this.#waiting.push(node);
      return nobody;
    }
    this.#isHeld = true;
    const due = this.#waiting;
    this.#waiting = [];
    return due;
  }
}
