// What the sockets of an edge have to write leaves at the end of the turn of the event loop, one
// socket after the other, and not between reading one connection and the next. A write to a client
// that sleeps wakes its processor, which costs more than the write itself, and a client that is
// faster than the node sleeps again before the next answer is ready: then every answer pays. The
// writes of a turn, close together, find it awake after the first. Redis writes its answers before
// it waits for new events for a like reason (`beforeSleep` in its source).

export class TurnWrites<Writer> {
  readonly #flush: (writer: Writer) => void;
  #writers: Writer[] = [];
  #isDue = false;

  constructor(flush: (writer: Writer) => void) {
    this.#flush = flush;
  }

  /**
   * `flush` is called once for each time. `isReading`: within the event of a socket, so that what has
   * arrived on others at the same time is handled first. Else once the callback that runs has ended,
   * such as that of a sync, which many answers wait for together.
   */
  add(writer: Writer, isReading: boolean): void {
    this.#writers.push(writer);
    if (!isReading && !this.#isDue) {
      this.#isDue = true;
      process.nextTick(this.#flushAll);
    } else if (this.#writers.length === 1) setImmediate(this.#flushAll);
  }

  readonly #flushAll = (): void => {
    this.#isDue = false;
    const writers = this.#writers;
    this.#writers = [];
    for (const writer of writers) this.#flush(writer);
  };
}
