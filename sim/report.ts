// What a campaign says: each seed that did not pass, and the sums at the end. A seed that did not do
// enough counts as invalid, apart from those that passed (CK-9), and a checker that judged nothing in
// all seeds is named, for it has proved nothing.

import type { Decisions } from './decisions.ts';
import { formatDecisions } from './decisions.ts';
import { declaredLabels, unreached } from './labels.ts';
import type { SeedResult, Verdict } from './run-seed.ts';
import { formatEvent } from './schedule.ts';
import type { Shrunk } from './shrink.ts';

export const exitCodes = {
  passed: 0,
  invalid: 0,
  crash: 10,
  safety: 11,
  liveness: 12,
  nondeterminism: 13,
  unreached: 14,
} as const satisfies Record<Verdict | 'unreached', number>;

/** Which verdict decides the exit code where seeds failed in several ways. */
const gravest: readonly Verdict[] = ['safety', 'crash', 'nondeterminism', 'liveness'];

export interface ReportOptions {
  readonly print: (line: string) => void;
  /** The log of the nodes too. */
  readonly isVerbose: boolean;
  /** Labels that were never reached are a failure. */
  readonly failUnreached: boolean;
}

export class Report {
  readonly #options: ReportOptions;
  readonly #startMs = performance.now();
  readonly #reached = new Map<string, number>();
  readonly #judged = new Map<string, number>();
  readonly #failed: SeedResult[] = [];
  #seeds = 0;
  #passed = 0;
  #invalid = 0;
  #events = 0;
  #acknowledged = 0;
  #crashes = 0;
  #virtualMs = 0;
  replays = 0;

  constructor(options: ReportOptions) {
    this.#options = options;
  }

  get failed(): readonly SeedResult[] {
    return this.#failed;
  }

  add(result: SeedResult): void {
    this.#seeds += 1;
    this.#events += result.events;
    this.#acknowledged += result.acknowledged;
    this.#crashes += result.crashes;
    this.#virtualMs += result.virtualMs;
    count(this.#reached, result.reached);
    count(this.#judged, result.judged);
    if (result.verdict === 'passed') this.#passed += 1;
    else if (result.verdict === 'invalid') this.#invalid += 1;
    else this.#failed.push(result);
    this.#show(result);
  }

  /** A failure that was made small: what is left of it, and how to see it again. */
  addShrunk(shrunk: Shrunk, folder: string | undefined): void {
    const { print } = this.#options;
    const { decisions, result, runs } = shrunk;
    const { events = [], core } = decisions.schedule ?? {};
    print(
      `seed ${decisions.seed} shrunk in ${runs} runs to ${events.length} faults and ${result.operations.length} operations:`,
    );
    for (const event of events) print(`  ${formatEvent(event)}`);
    if (core !== undefined) print(`  then gone for good: ${core.gone.join(', ')} (${core.how})`);
    for (const problem of result.problems.slice(0, 1)) print(`  ${problem}`);
    if (folder !== undefined) print(`  history, log and decisions: ${folder}`);
    print(`  ${replayCommand(decisions, folder)}`);
  }

  #show(result: SeedResult): void {
    const { print, isVerbose } = this.#options;
    const { seed, verdict, problems, options, log, hash, events } = result;
    if (isVerbose) {
      print(`seed ${seed}: ${verdict}, ${events} events, hash ${hash}`);
      print(`  ${options}`);
      for (const line of log) print(`  ${line}`);
    }
    if (verdict === 'passed') return;
    print(`seed ${seed}: ${verdict}`);
    if (!isVerbose) print(`  ${options}`);
    for (const problem of problems) print(`  ${problem}`);
  }

  /** Prints the sums; the exit code. */
  close(): number {
    const { print, failUnreached } = this.#options;
    const wallSeconds = (performance.now() - this.#startMs) / 1000;
    const perSecond = Math.round(this.#virtualMs / 1000 / wallSeconds);
    const missing = unreached(this.#reached);
    print(`reached: ${listed(this.#reached)}`);
    print(
      `labels: ${declaredLabels.length - missing.length} of ${declaredLabels.length} reached` +
        (missing.length === 0 ? '' : `, not: ${missing.join(', ')}`),
    );
    print(`judged operations: ${listed(this.#judged)}`);
    const idle = [...this.#judged].filter(([, judged]) => judged === 0).map(([id]) => id);
    if (idle.length > 0) print(`judged nothing: ${idle.join(', ')}`);
    print(
      `${this.#seeds} seeds, ${this.#invalid} invalid, ${this.replays} played twice, ${this.#events} events, ` +
        `${this.#acknowledged} acknowledged operations, ${this.#crashes} crashes`,
    );
    print(
      `${Math.round(this.#virtualMs / 1000)} virtual seconds in ${wallSeconds.toFixed(1)} s: ${perSecond} per second, ` +
        `${Math.round(this.#events / wallSeconds)} events per second`,
    );
    print(`${this.#passed} passed, ${this.#failed.length} failed`);
    const worst = gravest.find((verdict) => this.#failed.some((each) => each.verdict === verdict));
    if (worst !== undefined) return exitCodes[worst];
    return failUnreached && missing.length > 0 ? exitCodes.unreached : 0;
  }
}

const commandLengthMax = 2_000;

/** One line that plays the run again. */
export function replayCommand(decisions: Decisions, folder: string | undefined): string {
  const { seed, seconds, schedule, with: forced = [] } = decisions;
  const classes = forced.length === 0 ? '' : ` --with ${forced.join(',')}`;
  if (schedule === undefined)
    return `npm run test:sim -- --seed ${seed} --seconds ${seconds}${classes}`;
  const text = formatDecisions(decisions);
  const isLong = text.length > commandLengthMax && folder !== undefined;
  return `npm run test:sim -- --replay ${isLong ? `@${folder}/decisions.json` : `'${text}'`}`;
}

function count(sums: Map<string, number>, part: readonly (readonly [string, number])[]): void {
  for (const [name, amount] of part) sums.set(name, (sums.get(name) ?? 0) + amount);
}

const listed = (sums: ReadonlyMap<string, number>): string =>
  [...sums]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, amount]) => `${name} (${amount})`)
    .join(', ');
