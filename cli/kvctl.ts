#!/usr/bin/env node
// kvctl: the command line of a cluster. Everything is in cli/commands; this connects it to the
// process: its streams, and what ends it early.

import { runKvctl } from './commands/program.ts';
import type { CommandIo } from './commands/invocation.ts';

const signals = ['SIGINT', 'SIGTERM'] as const;
/** `interrupt`: of a command that has something to undo first. */
const ending: { interrupt: ((why: string) => void) | undefined; isInterrupted: boolean } = {
  interrupt: undefined,
  isInterrupted: false,
};

// The reader of a pipe may go first (`kvctl scan | head`): that is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (ending.interrupt !== undefined) ending.interrupt('nobody reads the output any more');
  else if (!ending.isInterrupted) process.exit(error.code === 'EPIPE' ? 0 : 1);
});

/** A second signal ends the process at once, as all do where nothing has to be undone. */
const onInterrupt: CommandIo['onInterrupt'] = (interrupted) => {
  ending.interrupt = (why) => {
    ending.isInterrupted = true;
    interrupted(why);
  };
  const signalled = (signal: string): void => ending.interrupt?.(`ended by ${signal}`);
  for (const signal of signals) process.once(signal, signalled);
  return () => {
    ending.interrupt = undefined;
    for (const signal of signals) process.off(signal, signalled);
  };
};

const { stdin, stdout, stderr, env } = process;
process.exitCode = await runKvctl(process.argv.slice(2), {
  ...{ stdin, stdout, stderr, env },
  onInterrupt,
});
// What was given up may go on for a while.
if (ending.isInterrupted) process.exit();
