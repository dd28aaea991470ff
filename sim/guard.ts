// Takes the real clock, timers and randomness away while a simulation runs (rule RP-4): product
// code that reaches for them would behave differently in each run. A use throws, and is reported
// even where the caller catches it.
//
// The guard is armed for the events of a world only, and disarmed before the event loop gets a
// turn, so a test runner around it keeps its own timers.

export class NondeterminismError extends Error {
  constructor(what: string) {
    super(`${what} was used inside a simulation; use the capabilities of the context`);
    this.name = 'NondeterminismError';
  }
}

type Globals = Record<string, unknown>;

const globals = globalThis as unknown as Globals;
const bannedFunctions = [
  'setTimeout',
  'setInterval',
  'setImmediate',
  'fetch',
  'structuredClone',
] as const;

/** One per world. `report` hears of every violation before it is thrown. */
export class Guard {
  readonly #report: (error: NondeterminismError) => void;
  readonly #saved: Globals = {};
  #random: (() => number) | undefined;

  constructor(report: (error: NondeterminismError) => void) {
    this.#report = report;
  }

  arm(): void {
    if (this.#random !== undefined) return;
    this.#random = Math.random;
    Math.random = this.#banned('Math.random');
    for (const name of bannedFunctions) this.#replace(name, this.#banned(name));
    this.#replace('performance', { now: this.#banned('performance.now') });
    this.#replace('Date', this.#bannedDate());
  }

  disarm(): void {
    if (this.#random === undefined) return;
    Math.random = this.#random;
    this.#random = undefined;
    for (const [name, value] of Object.entries(this.#saved)) define(name, value);
  }

  #replace(name: string, value: unknown): void {
    this.#saved[name] = globals[name];
    define(name, value);
  }

  #banned(what: string): () => never {
    return () => {
      const error = new NondeterminismError(what);
      this.#report(error);
      throw error;
    };
  }

  /** Dates of given times stay possible: they are the same in every run. */
  #bannedDate(): DateConstructor {
    const refuse = this.#banned('Date.now');
    return new Proxy(Date, {
      construct: (target, values: unknown[]): object =>
        values.length === 0 ? refuse() : (Reflect.construct(target, values) as object),
      apply: () => refuse(),
      get: (target, property): unknown =>
        property === 'now' ? refuse : Reflect.get(target, property),
    });
  }
}

function define(name: string, value: unknown): void {
  Object.defineProperty(globals, name, {
    value,
    configurable: true,
    writable: true,
    enumerable: true,
  });
}
