// What may happen very often and is told of in the log now and then: the first time at once, then not
// before a while has passed, with how many were left out between.

export class Seldom {
  readonly #everyMs: number;
  #toldMs = -Infinity;
  #leftOut = 0;

  constructor(everyMs: number) {
    this.#everyMs = everyMs;
  }

  /** It has happened once more: how many were left out before where it is to be told of, else undefined. */
  happened(nowMs: number): number | undefined {
    if (nowMs - this.#toldMs < this.#everyMs) {
      this.#leftOut += 1;
      return undefined;
    }
    const leftOut = this.#leftOut;
    this.#toldMs = nowMs;
    this.#leftOut = 0;
    return leftOut;
  }
}
