// Whether the other end of a connection is still there while asks wait for it. An ask may take an
// hour, so silence alone says nothing: after a third of the time the other end is probed, which its
// transport answers at once, and only a probe without an answer means that nobody is there. Where
// anything comes in, nothing is probed.
//
// A peer of before does not answer probes: there, an ask and then silence has to be enough.

/** Asks went out and nothing at all came in for so long: the other end is not there any more. */
export const silenceMsMax = 15_000;
/** A probe goes out after so much of it, and has at least so long to be answered. */
export const probeAfterMs = 5_000;

export class SilenceWatch {
  #openAsks = 0;
  /** The last deadline of all asks: not all of them are answered. */
  #openUntilMs = 0;
  /** When somebody began to wait for bytes; undefined: nobody has since some came. */
  #silentFromMs: number | undefined;
  #probedMs: number | undefined;
  #lookedMs = 0;

  asked(nowMs: number, deadlineMs: number): void {
    this.#openAsks += 1;
    if (deadlineMs > this.#openUntilMs) this.#openUntilMs = deadlineMs;
    this.#silentFromMs ??= nowMs;
  }

  answered(): void {
    if (this.#openAsks > 0) this.#openAsks -= 1;
  }

  /** Any bytes came in. */
  heard(): void {
    this.#silentFromMs = undefined;
    this.#probedMs = undefined;
  }

  /** What is to be done now; to be asked every second. `answersProbes`: the other end does. */
  look(nowMs: number, answersProbes: boolean): 'wait' | 'probe' | 'end' {
    const wasHeldUp = nowMs - this.#lookedMs > probeAfterMs;
    this.#lookedMs = nowMs;
    if (this.#silentFromMs === undefined) {
      const isAwaited = this.#openAsks > 0 && nowMs < this.#openUntilMs;
      if (answersProbes && isAwaited) this.#silentFromMs = nowMs;
      return 'wait';
    }
    const silentMs = nowMs - this.#silentFromMs;
    if (!answersProbes) return silentMs > silenceMsMax ? 'end' : 'wait';
    if (silentMs <= probeAfterMs) return 'wait';
    // While this thread did nothing, it did not read either: an answer may be waiting.
    if (this.#probedMs === undefined || wasHeldUp) {
      this.#probedMs = nowMs;
      return 'probe';
    }
    const isOver = silentMs > silenceMsMax && nowMs - this.#probedMs > probeAfterMs;
    return isOver ? 'end' : 'wait';
  }
}
