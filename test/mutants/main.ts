// Runs the simulator on copies of the program with one planted bug each and demands that it finds
// every one: exit code 11, safety.
//
//   npm run test:mutants [-- id ...]

import { spawnSync } from 'node:child_process';
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { exitCodes } from '../../sim/report.ts';
import { type Mutant, mutants, patched } from './mutants.ts';

const output = fileURLToPath(new URL('../..', import.meta.url));
const folders = ['actors', 'runtime', 'sim', 'transport'];

/** Undefined: found. Otherwise what went wrong. */
function run(mutant: Mutant): string | undefined {
  // Beside the original, so that packages are found in the same place.
  const copy = path.join(path.dirname(path.resolve(output)), `dist-mutant-${mutant.id}`);
  rmSync(copy, { recursive: true, force: true });
  try {
    for (const folder of folders)
      cpSync(path.join(output, folder), path.join(copy, folder), { recursive: true });
    const file = path.join(copy, mutant.file);
    writeFileSync(file, patched(readFileSync(file, 'utf8'), mutant));
    const args = [path.join(copy, 'sim/main.js'), '--seeds', String(mutant.seeds), '--stop'];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    if (status === exitCodes.safety) return undefined;
    const report = `${stdout}\n${stderr}`.trim().split('\n').slice(-8).join('\n    ');
    return `exit code ${String(status)} within ${mutant.seeds} seeds, expected ${exitCodes.safety}\n    ${report}`;
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

function main(wanted: readonly string[]): void {
  const chosen = mutants.filter(({ id }) => wanted.length === 0 || wanted.includes(id));
  let failed = wanted.filter((id) => !mutants.some((mutant) => mutant.id === id)).length;
  for (const id of wanted)
    if (!mutants.some((mutant) => mutant.id === id)) process.stdout.write(`${id}: unknown\n`);
  for (const mutant of chosen) {
    const problem = run(mutant);
    if (problem !== undefined) failed += 1;
    process.stdout.write(`${mutant.id}: ${problem ?? 'found'}\n`);
  }
  process.stdout.write(`${chosen.length - failed} passed, ${failed} failed\n`);
  process.exitCode = failed === 0 ? 0 : 1;
}

main(process.argv.slice(2));
