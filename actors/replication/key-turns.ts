// Turns on keys: whoever changes what is stored under a key in several steps has it for itself until
// it is done; others wait in the order in which they came.

import { latin1 } from '../../runtime/bytes.ts';

type Work = (done: () => void) => void;

export class KeyTurns {
  /** Keys that somebody has, with those who wait. */
  readonly #waiting = new Map<string, Work[]>();

  /** Runs `work` when it is its turn; the next one's begins when it calls `done`, once. */
  take(key: Uint8Array, work: Work): void {
    const name = latin1(key);
    const waiting = this.#waiting.get(name);
    if (waiting !== undefined) {
      waiting.push(work);
      return;
    }
    this.#waiting.set(name, []);
    this.#run(name, work);
  }

  /** Keys that somebody has. */
  get taken(): number {
    return this.#waiting.size;
  }

  #run(name: string, work: Work): void {
    work(() => {
      const next = this.#waiting.get(name)?.shift();
      if (next === undefined) this.#waiting.delete(name);
      else this.#run(name, next);
    });
  }
}
