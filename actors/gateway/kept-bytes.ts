// What Redis connections keep at a gateway between their commands: what MULTI queues and WATCH
// remembers. It lasts as long as a connection likes, so all connections together have one budget
// (rule SE-24). A connection that keeps little is never refused: those who are modest go on while
// others hold all there is.

/** Of all connections of a gateway. */
export const keptBytesMax = 64 * 1024 * 1024;
/** Of one connection that is not blamed for what all keep together. */
export const modestKeptBytes = 4 * 1024;

export class KeptBytes {
  readonly #bytesMax: number;
  #bytes = 0;

  constructor(bytesMax: number = keptBytesMax) {
    this.#bytesMax = bytesMax;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** False, and nothing is taken, where a connection that then keeps `own` bytes keeps too much. */
  take(bytes: number, own: number): boolean {
    if (own > modestKeptBytes && this.#bytes + bytes > this.#bytesMax) return false;
    this.#bytes += bytes;
    return true;
  }

  give(bytes: number): void {
    this.#bytes -= bytes;
  }
}
