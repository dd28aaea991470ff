#!/usr/bin/env node
// kvctl: the command line of a cluster. Everything is in cli/commands; this connects it to the
// process.

import { runKvctl } from './commands/program.ts';

// The reader of a pipe may go first (`kvctl scan | head`): that is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? 0 : 1);
});

const { stdin, stdout, stderr, env } = process;
process.exitCode = await runKvctl(process.argv.slice(2), { stdin, stdout, stderr, env });
