// The simulator's command line:
//
//   npm run test:sim -- [--seeds N] [--first F] [--seed S] [--seconds 60] [--jobs 2]
//                       [--replay DECISIONS|@FILE] [--reconcile] [--stop] [--verbose]
//                       [--with CLASS,...] [--shrink-seconds 60] [--artefacts FOLDER] [--fail-unreached]
//
// Exit codes: 0 fine, 1 usage, 10 crash, 11 safety, 12 liveness, 13 not deterministic, 14 a label was
// never reached. The last line counts seeds: `N passed, N failed`.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { replay, runCampaign, serveSeeds } from './campaign.ts';
import { type Decisions, parseDecisions } from './decisions.ts';
import { type DamageClass, damageClasses, type FaultClass, faultClasses } from './faults.ts';
import { exitCodes } from './report.ts';

const usage = `usage: npm run test:sim -- [--seeds N] [--first F] [--seed S] [--seconds 60] [--jobs 2]
  [--replay DECISIONS|@FILE] [--reconcile] [--stop] [--verbose]
  [--with CLASS,...] [--shrink-seconds 60] [--artefacts FOLDER] [--fail-unreached]`;

interface Arguments {
  readonly seeds: readonly number[];
  readonly seconds: number;
  readonly forced: readonly (FaultClass | DamageClass)[];
  readonly jobs: number;
  readonly isReconciling: boolean;
  readonly stopAtFailure: boolean;
  readonly isVerbose: boolean;
  readonly shrinkSeconds: number;
  readonly artefacts: string | undefined;
  readonly failUnreached: boolean;
  readonly decisions: Decisions | undefined;
}

const flags = {
  seeds: { type: 'string', default: '20' },
  first: { type: 'string', default: '1' },
  seed: { type: 'string' },
  seconds: { type: 'string', default: '60' },
  jobs: { type: 'string', default: '2' },
  replay: { type: 'string' },
  with: { type: 'string', default: '' },
  'shrink-seconds': { type: 'string', default: '60' },
  artefacts: { type: 'string', default: 'sim-failures' },
  'fail-unreached': { type: 'boolean', default: false },
  reconcile: { type: 'boolean', default: false },
  stop: { type: 'boolean', default: false },
  verbose: { type: 'boolean', default: false },
} as const;

/** A text says why they are not valid. */
function parse(args: readonly string[]): Arguments | string {
  try {
    const { values } = parseArgs({ args: [...args], options: flags });
    const one = values.seed === undefined ? undefined : whole('seed', values.seed);
    const first = whole('first', values.first);
    const count = whole('seeds', values.seeds);
    return {
      seeds: one === undefined ? Array.from({ length: count }, (_, i) => first + i) : [one],
      seconds: whole('seconds', values.seconds, 1),
      forced: values.with === '' ? [] : values.with.split(',').map(classOf),
      jobs: one === undefined ? whole('jobs', values.jobs, 1) : 1,
      isReconciling: values.reconcile,
      stopAtFailure: values.stop,
      isVerbose: values.verbose || one !== undefined || values.replay !== undefined,
      shrinkSeconds: whole('shrink-seconds', values['shrink-seconds']),
      artefacts: values.artefacts === '' ? undefined : values.artefacts,
      failUnreached: values['fail-unreached'],
      decisions: values.replay === undefined ? undefined : decisionsOf(values.replay),
    };
  } catch (error) {
    return (error as Error).message;
  }
}

/** The text itself, or with `@` before it the file that holds it. */
const decisionsOf = (text: string): Decisions =>
  parseDecisions(text.startsWith('@') ? readFileSync(text.slice(1), 'utf8') : text);

function classOf(name: string): FaultClass | DamageClass {
  const classes = [...faultClasses, ...damageClasses];
  const found = classes.find((each) => each === name);
  if (found === undefined)
    throw new RangeError(`--with: expected some of ${classes.join(', ')}, found ${name}`);
  return found;
}

function whole(name: string, text: string, min = 0): number {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= min) return value;
  throw new RangeError(`--${name}: expected a whole number from ${min} on, found ${text}`);
}

async function main(): Promise<void> {
  const args = process.argv.slice(2);
  if (args[0] === '--serve') {
    serveSeeds();
    return;
  }
  const parsed = parse(args);
  if (typeof parsed === 'string') {
    process.stderr.write(`${parsed}\n${usage}\n`);
    process.exitCode = 1;
    return;
  }
  const print = (line: string): void => {
    process.stdout.write(`${line}\n`);
  };
  try {
    const self = fileURLToPath(import.meta.url);
    const options = { ...parsed, main: self, print };
    // A replay is small already: only shown.
    process.exitCode =
      parsed.decisions === undefined
        ? await runCampaign(options)
        : await replay(parsed.decisions, { ...options, shrinkSeconds: 0, artefacts: undefined });
  } catch (error) {
    print(error instanceof Error ? (error.stack ?? error.message) : String(error));
    process.exitCode = exitCodes.crash;
  }
}

await main();
