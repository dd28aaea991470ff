// Many seeds: which to run, in how many processes, and what to do with a failing one.
//
// With several jobs each seed runs in one of so many child processes, which differ in what must not
// matter (time zone, language, sizes of heap and stack: rule RP-3). Every 20th seed is played a second time, by another
// process where there is one, and must give the same hash (rule RP-2). The first failing seed of each
// broken property is made small, and what is needed to look at it is kept (rules RP-5, RP-6).

import { type ChildProcess, fork } from 'node:child_process';
import { keepArtefacts } from './artefacts.ts';
import type { Decisions } from './decisions.ts';
import type { DamageClass, FaultClass } from './faults.ts';
import { Report, replayCommand } from './report.ts';
import { runDecisions, type SeedResult } from './run-seed.ts';
import { shrink } from './shrink.ts';
import { firstDifference, windowOf } from './trace.ts';

export interface CampaignOptions {
  readonly seeds: readonly number[];
  readonly seconds: number;
  /** Classes of faults that every seed has. */
  readonly forced: readonly (FaultClass | DamageClass)[];
  readonly jobs: number;
  /** Play every seed twice and show the first event that differs. */
  readonly isReconciling: boolean;
  readonly stopAtFailure: boolean;
  /** The log of the nodes too. */
  readonly isVerbose: boolean;
  /** How long to make one failing run smaller, seconds; 0: it stays as it is. */
  readonly shrinkSeconds: number;
  /** Where failing runs are written down; undefined: nowhere. */
  readonly artefacts: string | undefined;
  /** Labels that no seed reached are a failure. */
  readonly failUnreached: boolean;
  readonly print: (line: string) => void;
  /** File that a child process runs; it must call `serveSeeds`. */
  readonly main: string;
}

/** What a child process is told to play. */
export type SeedOrder = Decisions;

const replayEvery = 20;
/** Failing runs that are made small. */
const explainedMax = 3;
/** Large young generations: a tenth of the time went into collecting garbage. */
const heaps = [
  ['--max-semi-space-size=64'],
  ['--max-semi-space-size=32', '--stack-size=1200'],
] as const;
const zones = ['UTC', 'Asia/Kathmandu', 'America/St_Johns', 'Pacific/Kiritimati'];
const languages = ['C', 'tr_TR.UTF-8', 'de_DE.UTF-8', 'ja_JP.UTF-8'];

type Player = (order: SeedOrder) => Promise<SeedResult>;

function orderOf(seed: number, { seconds, forced }: CampaignOptions): SeedOrder {
  return { seed, seconds, ...(forced.length === 0 ? {} : { with: forced }) };
}

/** Runs all seeds and prints the report; the exit code. */
export async function runCampaign(options: CampaignOptions): Promise<number> {
  const report = new Report(options);
  const pool = options.jobs > 1 ? startPool(options) : undefined;
  const players: readonly Player[] = pool?.players ?? [(order) => runDecisions(order)];
  const { seeds } = options;
  let next = 0;
  const work = async (player: Player, index: number): Promise<void> => {
    while (next < seeds.length && !(options.stopAtFailure && report.failed.length > 0)) {
      const number = next;
      next += 1;
      const order = orderOf(seeds[number] as number, options);
      const result = await player(order);
      report.add(result);
      if (number % replayEvery !== 0 && !options.isReconciling) continue;
      const other = players[(index + 1) % players.length] as Player;
      await reconcile(result, await other(order), options, report);
    }
  };
  await Promise.all(players.map(work));
  pool?.close();
  const failed = report.failed.map((result) => ({
    result,
    decisions: orderOf(result.seed, options),
  }));
  await explain(failed, options, report);
  return report.close();
}

/** Plays one decision list and prints the report; the exit code. */
export async function replay(decisions: Decisions, options: CampaignOptions): Promise<number> {
  const report = new Report(options);
  const result = await runDecisions(decisions);
  report.add(result);
  if (report.failed.length > 0) await explain([{ result, decisions }], options, report);
  return report.close();
}

interface Failed {
  readonly result: SeedResult;
  readonly decisions: Decisions;
}

/** Makes the first failing run of each property small, and keeps it. */
async function explain(
  failed: readonly Failed[],
  options: CampaignOptions,
  report: Report,
): Promise<void> {
  const { shrinkSeconds, artefacts, print } = options;
  const known = new Set<string>();
  for (const { result, decisions } of failed) {
    if (known.has(result.property) || known.size >= explainedMax) continue;
    known.add(result.property);
    const untilMs = performance.now() + shrinkSeconds * 1000;
    const small =
      shrinkSeconds === 0 || result.verdict === 'nondeterminism'
        ? undefined
        : await shrink(result, decisions, {
            play: runDecisions,
            mayGoOn: () => performance.now() < untilMs,
          });
    const kept = small?.decisions ?? decisions;
    const folder = artefacts === undefined ? undefined : await keepArtefacts(artefacts, kept);
    if (small !== undefined) report.addShrunk(small, folder);
    else print(`  ${replayCommand(decisions, folder)}`);
  }
}

/** Both runs of a seed must be one and the same run. */
async function reconcile(
  first: SeedResult,
  second: SeedResult,
  options: CampaignOptions,
  report: Report,
): Promise<void> {
  report.replays += 1;
  if (first.hash === second.hash) return;
  const order = orderOf(first.seed, options);
  const problems = [`two runs differ: ${first.hash} and ${second.hash}`];
  const at =
    firstDifference(first.checkpoints, second.checkpoints) ??
    Math.min(first.checkpoints.length, second.checkpoints.length);
  const traceWindow = windowOf(at);
  const a = await runDecisions(order, { traceWindow });
  const b = await runDecisions(order, { traceWindow });
  const line = a.traceLines.findIndex((text, i) => text !== b.traceLines[i]);
  problems.push(
    line < 0
      ? `they part before entry ${traceWindow.to} of the trace`
      : `first difference: ${a.traceLines[line] ?? 'end'} | ${b.traceLines[line] ?? 'end'}`,
  );
  report.add({ ...first, verdict: 'nondeterminism', property: 'nondeterminism', problems });
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
  const execArgv = [...process.execArgv, ...(heaps[index % heaps.length] ?? [])];
  const child = fork(main, ['--serve'], { env, execArgv });
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
    const order = message as SeedOrder;
    last = last.then(() => runDecisions(order)).then((result) => process.send?.(result));
  });
}
