// The simulator's command line:
//
//   npm run test:sim -- [--seeds N] [--first F] [--seed S] [--seconds 60] [--jobs 2]
//                       [--reconcile] [--stop] [--verbose]
//
// Exit codes: 0 fine, 1 usage, 10 crash, 11 safety, 12 liveness, 13 not deterministic. The last
// line counts seeds: `N passed, N failed`.

import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { exitCodes, runCampaign, serveSeeds } from './campaign.ts';

const usage =
  'usage: npm run test:sim -- [--seeds N] [--first F] [--seed S] [--seconds 60] [--jobs 2] [--reconcile] [--stop] [--verbose]';

interface Arguments {
  readonly seeds: readonly number[];
  readonly seconds: number;
  readonly jobs: number;
  readonly isReconciling: boolean;
  readonly stopAtFailure: boolean;
  readonly isVerbose: boolean;
}

/** Undefined: not valid. */
function parse(args: readonly string[]): Arguments | undefined {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        seeds: { type: 'string', default: '20' },
        first: { type: 'string', default: '1' },
        seed: { type: 'string' },
        seconds: { type: 'string', default: '60' },
        jobs: { type: 'string', default: '2' },
        reconcile: { type: 'boolean', default: false },
        stop: { type: 'boolean', default: false },
        verbose: { type: 'boolean', default: false },
      },
    });
    const one = values.seed === undefined ? undefined : whole(values.seed);
    const first = whole(values.first);
    const count = whole(values.seeds);
    return {
      seeds: one === undefined ? Array.from({ length: count }, (_, i) => first + i) : [one],
      seconds: whole(values.seconds),
      jobs: one === undefined ? whole(values.jobs) : 1,
      isReconciling: values.reconcile,
      stopAtFailure: values.stop,
      isVerbose: values.verbose || one !== undefined,
    };
  } catch {
    return undefined;
  }
}

function whole(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(text);
  return value;
}

async function main(): Promise<void> {
  const args = process.argv.slice(2);
  if (args[0] === '--serve') {
    serveSeeds();
    return;
  }
  const parsed = parse(args);
  if (parsed === undefined || parsed.seconds === 0 || parsed.jobs === 0) {
    process.stderr.write(`${usage}\n`);
    process.exitCode = 1;
    return;
  }
  const print = (line: string): void => {
    process.stdout.write(`${line}\n`);
  };
  try {
    const self = fileURLToPath(import.meta.url);
    process.exitCode = await runCampaign({ ...parsed, main: self, print });
  } catch (error) {
    print(error instanceof Error ? (error.stack ?? error.message) : String(error));
    process.exitCode = exitCodes.crash;
  }
}

await main();
