// Makes a failing run small (rule RP-5): leaves out faults, operations, kinds of disturbance and time
// as long as the same property is broken. A candidate that breaks another property is not taken: it
// would be another bug.
//
// The order follows cost: what makes runs short and calm is tried first. Everything works on the
// decision list, never on the seed, so what is left out does not move what stays.

import { ddmin } from './ddmin.ts';
import { calmParts, type CalmPart, type Decisions } from './decisions.ts';
import type { SeedResult } from './run-seed.ts';
import type { FaultEvent, Schedule, SteadyFaults } from './schedule.ts';

export interface ShrinkOptions {
  /** Runs one candidate. */
  readonly play: (decisions: Decisions) => Promise<SeedResult>;
  /** False: enough time was spent; what was found so far is the result. */
  readonly mayGoOn: () => boolean;
}

export interface Shrunk {
  readonly decisions: Decisions;
  /** The run of these decisions. */
  readonly result: SeedResult;
  /** Candidates that were played. */
  readonly runs: number;
}

const calmSteady: SteadyFaults = {
  lossRatio: 0,
  replayRatio: 0,
  corruptRatio: 0,
  diskErrors: {},
};
/** After the last fault the run goes on for this long at least. */
const tailMs = 2_000;

/** Undefined: the run does not break the same property when its decisions are made explicit. */
export async function shrink(
  failing: SeedResult,
  from: Decisions,
  options: ShrinkOptions,
): Promise<Shrunk | undefined> {
  const shrinker = new Shrinker(failing, options);
  const explicit = { ...from, schedule: failing.schedule };
  if (!(await shrinker.take(explicit))) return undefined;
  await shrinker.shrink();
  return shrinker.best;
}

class Shrinker {
  readonly #property: string;
  readonly #options: ShrinkOptions;
  #best: Shrunk | undefined;
  #runs = 0;

  constructor(failing: SeedResult, options: ShrinkOptions) {
    this.#property = failing.property;
    this.#options = options;
  }

  get best(): Shrunk | undefined {
    return this.#best === undefined ? undefined : { ...this.#best, runs: this.#runs };
  }

  /** Plays a candidate; true, and it is the best one, where it breaks the same property. */
  async take(decisions: Decisions): Promise<boolean> {
    if (this.#best !== undefined && !this.#options.mayGoOn()) return false;
    this.#runs += 1;
    const result = await this.#options.play(decisions);
    if (result.property !== this.#property) return false;
    this.#best = { decisions, result, runs: this.#runs };
    return true;
  }

  async shrink(): Promise<void> {
    await this.#withoutCore();
    await this.#fewerEvents();
    await this.#calmer();
    await this.#shorter();
    await this.#fewerOperations();
    await this.#fewerEvents();
    await this.#milderEvents();
    await this.#shorter();
  }

  get #decisions(): Decisions {
    return (this.#best as Shrunk).decisions;
  }

  get #schedule(): Schedule {
    return this.#decisions.schedule as Schedule;
  }

  #withSchedule(part: Partial<Schedule>): Decisions {
    return { ...this.#decisions, schedule: { ...this.#schedule, ...part } };
  }

  async #withoutCore(): Promise<void> {
    const { steady, events, core } = this.#schedule;
    if (core !== undefined) await this.take({ ...this.#decisions, schedule: { steady, events } });
  }

  async #fewerEvents(): Promise<void> {
    await ddmin(this.#schedule.events, (events) => this.take(this.#withSchedule({ events })));
  }

  async #calmer(): Promise<void> {
    for (const name of Object.keys(calmSteady) as (keyof SteadyFaults)[]) {
      const { steady } = this.#schedule;
      if (JSON.stringify(steady[name]) === JSON.stringify(calmSteady[name])) continue;
      await this.take(this.#withSchedule({ steady: { ...steady, [name]: calmSteady[name] } }));
    }
    for (const part of calmParts) {
      const calm: readonly CalmPart[] = [...(this.#decisions.calm ?? []), part];
      await this.take({ ...this.#decisions, calm });
    }
  }

  async #shorter(): Promise<void> {
    const lastMs = Math.max(0, ...this.#schedule.events.map(({ atMs }) => atMs));
    for (const chaosMs of [lastMs + tailMs, lastMs + 5 * tailMs])
      if (chaosMs < (this.#decisions.chaosMs ?? Infinity))
        if (await this.take({ ...this.#decisions, chaosMs })) return;
  }

  async #fewerOperations(): Promise<void> {
    const all = (this.#best as Shrunk).result.operations;
    // Whole workloads and clients first: far fewer candidates than operations.
    for (const depth of [1, 2]) {
      const groups = [...new Set(this.#kept(all).map((name) => groupOf(name, depth)))];
      await ddmin(groups, (chosen) => {
        const left = new Set(chosen);
        return this.#takeOperations(
          this.#kept(all).filter((name) => left.has(groupOf(name, depth))),
        );
      });
    }
    await ddmin(this.#kept(all), (operations) => this.#takeOperations(operations));
  }

  #kept(all: readonly string[]): readonly string[] {
    return this.#decisions.operations ?? all;
  }

  #takeOperations(operations: readonly string[]): Promise<boolean> {
    return this.take({ ...this.#decisions, operations });
  }

  /** Each event half as long, once. */
  async #milderEvents(): Promise<void> {
    for (let at = 0; at < this.#schedule.events.length; at += 1) {
      const events: FaultEvent[] = [...this.#schedule.events];
      const event = events[at] as FaultEvent;
      if (event.durationMs < 100) continue;
      events[at] = { ...event, durationMs: Math.round(event.durationMs / 2) };
      await this.take(this.#withSchedule({ events }));
    }
  }
}

/** The first parts of an operation's name: its workload, or its workload and client. */
const groupOf = (name: string, depth: number): string => name.split('/').slice(0, depth).join('/');
