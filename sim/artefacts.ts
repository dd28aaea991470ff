// What is kept of a failing run (rule RP-6): its decisions, its history as JSON lines, and what the
// nodes logged by virtual time. Enough to look at it again without the program that failed.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Decisions, formatDecisions } from './decisions.ts';
import type { Operation } from './history.ts';
import { runDecisions } from './run-seed.ts';

/** Plays the run once more and writes it down below `directory`; the folder of the run. */
export async function keepArtefacts(directory: string, decisions: Decisions): Promise<string> {
  const folder = join(directory, `seed-${decisions.seed}`);
  let history: readonly Operation[] = [];
  const result = await runDecisions(decisions, {
    onHistory: (operations) => {
      history = operations;
    },
  });
  mkdirSync(folder, { recursive: true });
  const write = (name: string, lines: readonly string[]): void => {
    writeFileSync(join(folder, name), `${lines.join('\n')}\n`);
  };
  write('decisions.json', [formatDecisions(decisions)]);
  write(
    'history.jsonl',
    history.map((operation) => JSON.stringify(operation)),
  );
  write('log.txt', result.log);
  write('verdict.txt', [result.property, result.options, ...result.problems]);
  return folder;
}
