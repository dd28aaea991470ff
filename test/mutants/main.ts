// Runs the simulator on copies of the program with one planted bug each and demands that it finds
// every one within its number of seeds, with the exit code that its row says.
//
//   npm run test:mutants [-- --quick | --list | id ...]

import { spawnSync } from 'node:child_process';
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { exitCodes } from '../../sim/report.ts';
import { awaited, type Mutant, mutants, patched } from './mutants.ts';

const output = fileURLToPath(new URL('../..', import.meta.url));
const folders = ['actors', 'runtime', 'sim', 'transport'];

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

function run(mutant: Mutant): Outcome {
  // Beside the original, so that packages are found in the same place.
  const copy = path.join(path.dirname(path.resolve(output)), `dist-mutant-${mutant.id}`);
  rmSync(copy, { recursive: true, force: true });
  try {
    for (const folder of folders)
      cpSync(path.join(output, folder), path.join(copy, folder), { recursive: true });
    for (const patch of [mutant, ...(mutant.also ?? [])]) {
      const file = path.join(copy, patch.file);
      writeFileSync(file, patched(readFileSync(file, 'utf8'), mutant.id, patch));
    }
    return play(mutant, path.join(copy, 'sim/main.js'));
  } finally {
    rmSync(copy, { recursive: true, force: true });
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
  const report = `${stdout}\n${stderr}`.trim().split('\n').slice(-8).join('\n    ');
  const what = `exit code ${String(status)} within ${seeds} seeds, expected ${exitCode}`;
  return { isFound: false, what: `${what}\n    ${report}` };
}

function list(): void {
  for (const { id, rule = '-', what, isQuick = false } of mutants)
    process.stdout.write(`${rule} ${id}${isQuick ? ' (quick)' : ''}: ${what}\n`);
  for (const { rule, what, feature } of awaited)
    process.stdout.write(`${rule} waits for ${feature}: ${what}\n`);
}

function main(args: readonly string[]): void {
  if (args.includes('--list')) return list();
  const isQuick = args.includes('--quick');
  const wanted = args.filter((arg) => !arg.startsWith('--'));
  const chosen = mutants.filter(
    (mutant) =>
      (wanted.length === 0 || wanted.includes(mutant.id)) && (!isQuick || mutant.isQuick === true),
  );
  let failed = wanted.filter((id) => !mutants.some((mutant) => mutant.id === id)).length;
  for (const id of wanted)
    if (!mutants.some((mutant) => mutant.id === id)) process.stdout.write(`${id}: unknown\n`);
  for (const mutant of chosen) {
    const { isFound, what } = run(mutant);
    if (!isFound) failed += 1;
    process.stdout.write(`${mutant.rule ?? '-'} ${mutant.id}: ${what}\n`);
  }
  process.stdout.write(`${chosen.length - failed} passed, ${failed} failed\n`);
  process.exitCode = failed === 0 ? 0 : 1;
}

main(process.argv.slice(2));
