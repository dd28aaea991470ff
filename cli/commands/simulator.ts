// kvctl sim run|replay: the simulator that the tests use, on this machine and without a cluster. It
// runs as a process of its own, because it takes the clock away from the one that it runs in.

import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { type Invoke, wholeNumber } from './data.ts';
import { ExitError, exitCodes, type Invocation } from './invocation.ts';

interface RunArguments {
  readonly seeds: number;
  readonly first: number;
  readonly seed?: number;
  readonly seconds: number;
  readonly jobs: number;
}

export function addSimulatorCommands(program: Command, invoke: Invoke): void {
  const count = wholeNumber(1, 1_000_000);
  const sim = program.command('sim').description('clusters in simulation, with faults and checks');
  sim
    .command('run')
    .description('run seeds; a failing one is made small and named')
    .option('--seeds <n>', 'how many', count, 20)
    .option('--first <n>', 'the first of them', wholeNumber(0, 0xffff_ffff), 1)
    .option('--seed <n>', 'this one alone', wholeNumber(0, 0xffff_ffff))
    .option('--seconds <n>', 'virtual seconds of each', count, 60)
    .option('--jobs <n>', 'at the same time', wholeNumber(1, 64), 2)
    .action((options: RunArguments, command: Command) => {
      const { seeds, first, seed, seconds, jobs } = options;
      const which = seed === undefined ? ['--seeds', seeds, '--first', first] : ['--seed', seed];
      // Nothing is written beside what is printed.
      const args = [...which, '--seconds', seconds, '--jobs', jobs, '--artefacts', ''];
      return simulate(invoke(command), args.map(String));
    });
  sim
    .command('replay <decisions>')
    .description('run what a failing seed was made small to; @FILE reads it from a file')
    .action((decisions: string, _options: object, command: Command) =>
      simulate(invoke(command), ['--replay', decisions]),
    );
}

async function simulate({ io }: Invocation, args: readonly string[]): Promise<void> {
  const main = fileURLToPath(new URL('../../sim/main.js', import.meta.url));
  const child = spawn(process.execPath, [main, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout.pipe(io.stdout, { end: false });
  child.stderr.pipe(io.stderr, { end: false });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (code === 0) return;
  if (code === 1) throw new ExitError(exitCodes.usage, '');
  throw new ExitError(exitCodes.refused, `the simulation ended with ${code ?? 'a signal'}`);
}
