// Many seeds: which to run, in how many processes, what to print, and how it ends.
//
// With several jobs each seed runs in one of so many child processes, which differ in what must not
// matter (time zone, language: rule RP-3). Every 20th seed is played a second time, by another
// process where there is one, and must give the same hash (rule RP-2).

import { type ChildProcess, fork } from 'node:child_process';
import { runSeed, type SeedResult, type Verdict } from './run-seed.ts';
import { firstDifference, windowOf } from './trace.ts';

export interface CampaignOptions {
  readonly seeds: readonly number[];
  readonly seconds: number;
  readonly jobs: number;
  /** Play every seed twice and show the first event that differs. */
  readonly isReconciling: boolean;
  readonly stopAtFailure: boolean;
  /** The log of the nodes too. */
  readonly isVerbose: boolean;
  readonly print: (line: string) => void;
  /** File that a child process runs; it must call `serveSeeds`. */
  readonly main: string;
}

export interface SeedOrder {
  readonly seed: number;
  readonly seconds: number;
}

export const exitCodes = {
  passed: 0,
  invalid: 0,
  crash: 10,
  safety: 11,
  liveness: 12,
  nondeterminism: 13,
} as const satisfies Record<Verdict, number>;

/** Which verdict decides the exit code where seeds failed in several ways. */
const gravest: readonly Verdict[] = ['safety', 'crash', 'nondeterminism', 'liveness'];
const replayEvery = 20;
const zones = ['UTC', 'Asia/Kathmandu', 'America/St_Johns', 'Pacific/Kiritimati'];
const languages = ['C', 'tr_TR.UTF-8', 'de_DE.UTF-8', 'ja_JP.UTF-8'];

type Player = (order: SeedOrder) => Promise<SeedResult>;

/** Runs all seeds and prints the report; the exit code. */
export async function runCampaign(options: CampaignOptions): Promise<number> {
  const totals = new Totals(options);
  const pool = options.jobs > 1 ? startPool(options) : undefined;
  const players: readonly Player[] = pool?.players ?? [
    ({ seed, seconds }) => runSeed(seed, { seconds }),
  ];
  const { seeds, seconds } = options;
  let next = 0;
  const work = async (player: Player, index: number): Promise<void> => {
    while (next < seeds.length && !(options.stopAtFailure && totals.hasFailed)) {
      const number = next;
      next += 1;
      const order = { seed: seeds[number] as number, seconds };
      const result = await player(order);
      totals.add(result);
      if (number % replayEvery !== 0 && !options.isReconciling) continue;
      const other = players[(index + 1) % players.length] as Player;
      await reconcile(result, await other(order), options, totals);
    }
  };
  await Promise.all(players.map(work));
  pool?.close();
  return totals.report();
}

/** Both runs of a seed must be one and the same run. */
async function reconcile(
  first: SeedResult,
  second: SeedResult,
  options: CampaignOptions,
  totals: Totals,
): Promise<void> {
  totals.replays += 1;
  if (first.hash === second.hash) return;
  const { seconds } = options;
  const problems = [`two runs differ: ${first.hash} and ${second.hash}`];
  const at =
    firstDifference(first.checkpoints, second.checkpoints) ??
    Math.min(first.checkpoints.length, second.checkpoints.length);
  const traceWindow = windowOf(at);
  const a = await runSeed(first.seed, { seconds, traceWindow });
  const b = await runSeed(first.seed, { seconds, traceWindow });
  const line = a.traceLines.findIndex((text, i) => text !== b.traceLines[i]);
  problems.push(
    line < 0
      ? `they part before entry ${traceWindow.to} of the trace`
      : `first difference: ${a.traceLines[line] ?? 'end'} | ${b.traceLines[line] ?? 'end'}`,
  );
  totals.add({ ...first, verdict: 'nondeterminism', problems });
}

class Totals {
  readonly #options: CampaignOptions;
  readonly #startMs = performance.now();
  readonly #reached = new Map<string, number>();
  readonly #failed: SeedResult[] = [];
  #seeds = 0;
  #passed = 0;
  #invalid = 0;
  #events = 0;
  #acknowledged = 0;
  #crashes = 0;
  #virtualMs = 0;
  replays = 0;

  constructor(options: CampaignOptions) {
    this.#options = options;
  }

  get hasFailed(): boolean {
    return this.#failed.length > 0;
  }

  add(result: SeedResult): void {
    this.#seeds += 1;
    this.#events += result.events;
    this.#acknowledged += result.acknowledged;
    this.#crashes += result.crashes;
    this.#virtualMs += result.virtualMs;
    for (const [label, count] of result.reached)
      this.#reached.set(label, (this.#reached.get(label) ?? 0) + count);
    if (result.verdict === 'passed') this.#passed += 1;
    else if (result.verdict === 'invalid') this.#invalid += 1;
    else this.#failed.push(result);
    this.#show(result);
  }

  #show(result: SeedResult): void {
    const { print, isVerbose, seconds } = this.#options;
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
    if (verdict !== 'invalid') print(`  npm run test:sim -- --seed ${seed} --seconds ${seconds}`);
  }

  report(): number {
    const { print } = this.#options;
    const wallSeconds = (performance.now() - this.#startMs) / 1000;
    const perSecond = Math.round(this.#virtualMs / 1000 / wallSeconds);
    const labels = [...this.#reached].sort(([a], [b]) => (a < b ? -1 : 1));
    print(`reached: ${labels.map(([label, count]) => `${label} (${count})`).join(', ')}`);
    print(
      `${this.#seeds} seeds, ${this.#invalid} invalid, ${this.replays} played twice, ${this.#events} events, ` +
        `${this.#acknowledged} acknowledged operations, ${this.#crashes} crashes`,
    );
    print(
      `${Math.round(this.#virtualMs / 1000)} virtual seconds in ${wallSeconds.toFixed(1)} s: ${perSecond} per second`,
    );
    print(`${this.#passed} passed, ${this.#failed.length} failed`);
    const worst = gravest.find((verdict) =>
      this.#failed.some((result) => result.verdict === verdict),
    );
    return worst === undefined ? 0 : exitCodes[worst];
  }
}

// ---- child processes ---------------------------------------------------------------------------

interface Pool {
  readonly players: readonly Player[];
  readonly close: () => void;
}

function startPool({ jobs, main }: CampaignOptions): Pool {
  const children = Array.from({ length: jobs }, (_, i) => startChild(main, i));
  return {
    players: children.map(({ play }) => play),
    close: () => {
      for (const { child } of children) child.disconnect();
    },
  };
}

function startChild(main: string, index: number): { child: ChildProcess; play: Player } {
  const env = {
    ...process.env,
    TZ: zones[index % zones.length],
    LANG: languages[index % languages.length],
  };
  const child = fork(main, ['--serve'], { env });
  // Orders of two players may meet here (a second run of a seed): one at a time, in order.
  const waiting: {
    readonly resolve: (result: SeedResult) => void;
    readonly reject: (error: Error) => void;
  }[] = [];
  child.on('message', (result) => waiting.shift()?.resolve(result as SeedResult));
  child.on('exit', (code) => {
    for (const { reject } of waiting.splice(0))
      reject(new Error(`a child process ended with code ${String(code)}`));
  });
  const play: Player = (order) =>
    new Promise((resolve, reject) => {
      waiting.push({ resolve, reject });
      child.send(order);
    });
  return { child, play };
}

/** The other side: plays what the parent orders, until it disconnects. */
export function serveSeeds(): void {
  let last: Promise<unknown> = Promise.resolve();
  process.on('message', (message) => {
    const { seed, seconds } = message as SeedOrder;
    last = last.then(() => runSeed(seed, { seconds })).then((result) => process.send?.(result));
  });
}
