// Runs the simulator on copies of the program with one planted bug each and demands that it finds
// every one: within its number of seeds, with the exit code that its row says, or by the scenario
// of its row, which must pass on the program as it is.
//
//   npm run test:mutants [-- --quick | --list | id ...]

import { spawnSync } from 'node:child_process';
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { exitCodes } from '../../sim/report.ts';
import { awaited, type Mutant, mutants, patched, patchesOf } from './mutants.ts';
import { type Scenario, type ScenarioMutant, scenarioMutants } from './scenarios.ts';

type AnyMutant = Mutant | ScenarioMutant;

const output = path.resolve(fileURLToPath(new URL('../..', import.meta.url)));
const all: readonly AnyMutant[] = [...mutants, ...scenarioMutants];
const programFolders = ['actors', 'runtime', 'sim', 'transport'];
/** A scenario is a test, and may use the tools of an operator. */
const scenarioFolders = [...programFolders, 'cli', 'test'];

/** How a bug shows where no checker names it. */
const endings: ReadonlyMap<number, string> = new Map([
  [exitCodes.safety, 'a node that refused its data'],
  [exitCodes.crash, 'a node that could not start or go on'],
  [exitCodes.liveness, 'a cluster that did not go on'],
]);

interface Outcome {
  readonly isFound: boolean;
  readonly what: string;
}

function run(mutant: AnyMutant): Outcome {
  // Beside the original, so that packages are found in the same place.
  const copy = path.join(path.dirname(output), `dist-mutant-${mutant.id}`);
  rmSync(copy, { recursive: true, force: true });
  try {
    for (const folder of 'scenario' in mutant ? scenarioFolders : programFolders)
      cpSync(path.join(output, folder), path.join(copy, folder), { recursive: true });
    for (const patch of patchesOf(mutant)) {
      const file = path.join(copy, patch.file);
      writeFileSync(file, patched(readFileSync(file, 'utf8'), mutant.id, patch));
    }
    if ('scenario' in mutant) return playScenario(mutant.scenario, copy);
    return play(mutant, path.join(copy, 'sim/main.js'));
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

/** Only the two together say something: it passes without the bug and fails because of it. */
function playScenario(scenario: Scenario, copy: string): Outcome {
  const without = outcomeOf(scenario, output);
  if (without.passes !== 1 || without.failures.length > 0)
    return { isFound: false, what: `does not pass without the bug\n    ${without.report}` };
  const { failures, report } = outcomeOf(scenario, copy);
  const { failsWith } = scenario;
  const isFound = failures.length === 1 && failures[0]?.includes(failsWith) === true;
  if (!isFound)
    return { isFound, what: `does not fail by ${JSON.stringify(failsWith)}\n    ${report}` };
  return { isFound, what: `found by ${scenario.file}: ${failures[0] ?? ''}` };
}

interface MochaReport {
  readonly stats: { readonly passes: number };
  readonly failures: readonly { readonly err: { readonly message?: string } }[];
}

interface ScenarioOutcome {
  readonly passes: number;
  /** Messages. */
  readonly failures: readonly string[];
  readonly report: string;
}

function outcomeOf({ file, title }: Scenario, folder: string): ScenarioOutcome {
  const root = path.dirname(output);
  const mocha = path.join(root, 'node_modules/mocha/bin/mocha.js');
  const args = [path.join(folder, file), '--fgrep', title, '--reporter', 'json'];
  const { stdout, stderr } = spawnSync(process.execPath, [mocha, ...args], {
    cwd: root,
    encoding: 'utf8',
  });
  try {
    const report = JSON.parse(stdout) as MochaReport;
    const { passes } = report.stats;
    const failures = report.failures.map(({ err }) => err.message ?? '');
    const what = [`${passes} passed, ${failures.length} failed`, ...failures];
    return { passes, failures, report: what.join('\n    ') };
  } catch {
    // Where the file cannot even be loaded mocha reports nothing.
    return { passes: 0, failures: [], report: lastLines(`${stdout}\n${stderr}`) };
  }
}

function play(mutant: Mutant, main: string): Outcome {
  const { seeds, with: classes = [], exitCode = exitCodes.safety } = mutant;
  const args = ['--seeds', String(seeds), '--stop', '--shrink-seconds', '0', '--artefacts', ''];
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [main, ...args, '--with', classes.join(',')],
    { encoding: 'utf8' },
  );
  if (status === exitCode) {
    const tried = /^(\d+) seeds,/m.exec(stdout)?.[1] ?? '?';
    const broken = /^ {2}([A-Z]+-\d+) /m.exec(stdout)?.[1] ?? endings.get(exitCode);
    return { isFound: true, what: `found by ${broken} within ${tried} of ${seeds} seeds` };
  }
  const what = `exit code ${String(status)} within ${seeds} seeds, expected ${exitCode}`;
  return { isFound: false, what: `${what}\n    ${lastLines(`${stdout}\n${stderr}`)}` };
}

const lastLines = (text: string): string => text.trim().split('\n').slice(-8).join('\n    ');

function list(): void {
  for (const { id, rule = '-', what, isQuick = false } of all)
    process.stdout.write(`${rule} ${id}${isQuick ? ' (quick)' : ''}: ${what}\n`);
  for (const { rule, what, feature } of awaited)
    process.stdout.write(`${rule} waits for ${feature}: ${what}\n`);
}

function main(args: readonly string[]): void {
  if (args.includes('--list')) return list();
  const isQuick = args.includes('--quick');
  const wanted = args.filter((arg) => !arg.startsWith('--'));
  const chosen = all.filter(
    (mutant) =>
      (wanted.length === 0 || wanted.includes(mutant.id)) && (!isQuick || mutant.isQuick === true),
  );
  const unknown = wanted.filter((id) => !all.some((mutant) => mutant.id === id));
  for (const id of unknown) process.stdout.write(`${id}: unknown\n`);
  let passed = 0;
  for (const mutant of chosen) {
    const { isFound, what } = run(mutant);
    if (isFound) passed += 1;
    process.stdout.write(`${mutant.rule ?? '-'} ${mutant.id}: ${what}\n`);
  }
  const failed = chosen.length + unknown.length - passed;
  process.stdout.write(`${passed} passed, ${failed} failed\n`);
  process.exitCode = failed === 0 ? 0 : 1;
}

main(process.argv.slice(2));
