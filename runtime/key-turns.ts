// Turns by key: who comes while another has the turn of a key waits for it to end; different keys do
// not wait for each other.

export class KeyTurns {
  readonly #last = new Map<string, Promise<void>>();

  /** Runs `work` when all earlier work on this key has ended, with success or not. */
  async run<Result>(key: string, work: () => Promise<Result>): Promise<Result> {
    const before = this.#last.get(key);
    let ended: () => void = () => undefined;
    const end = new Promise<void>((resolve) => {
      ended = resolve;
    });
    this.#last.set(key, end);
    try {
      await before;
      return await work();
    } finally {
      if (this.#last.get(key) === end) this.#last.delete(key);
      ended();
    }
  }
}
