// kvctl as a function: arguments and streams in, an exit code out. Global options may stand before
// or after the command. Commands of the contract that are not there yet exist and say so.

import { Command, CommanderError, Option } from 'commander';
import { ClientError } from '../client/http-exchange.ts';
import { addBackupCommand } from './backup.ts';
import { addBatchCommand } from './batches.ts';
import { addBenchCommand } from './bench.ts';
import { addClusterCommands } from './cluster.ts';
import { addCompletionCommand, completionsOf } from './completion.ts';
import { addDataCommands, wholeNumber } from './data.ts';
import { addExplainCommands } from './explain.ts';
import {
  type CommandIo,
  ExitError,
  exitCodeOf,
  exitCodes,
  type GlobalOptions,
  Invocation,
  outputForms,
  timeoutMsMax,
} from './invocation.ts';
import { addNamespaceCommands } from './namespaces.ts';
import { addRepairCommands } from './repair.ts';
import { runRepl } from './repl.ts';
import { addRestoreCommand } from './restore.ts';
import { addSerialCommands } from './serial.ts';
import { addSimulatorCommands } from './simulator.ts';
import { addSnapshotCommands } from './snapshots.ts';
import { addStorageCommands } from './storage.ts';
import { addTopCommand } from './top.ts';
import { addTransferCommands } from './transfer.ts';
import { addUserCommands } from './users.ts';
import { addWatchCommand } from './watch.ts';

// biome-ignore format: a list
const plannedCommands = [
  'ops', 'join', 'leave', 'remove', 'replace', 'rebalance',
] as const;

/** Runs one command line, without the names of node and script. Exit codes: see invocation.ts. */
export async function runKvctl(args: readonly string[], io: CommandIo): Promise<number> {
  try {
    if (!isPrompt(args, io)) return await runCommand(args, io);
  } catch (error) {
    return exitCodeFor(error, io);
  }
  const [{ words: commands } = { words: [] }] = completionsOf(createProgram(io));
  const run = (line: readonly string[]): Promise<number> => runCommand(line, io);
  return runRepl({ io, args, run, commands: commands.filter((word) => !word.startsWith('-')) });
}

/** Only options, all of them known; one that ends at once (`--version`), or is wrong, throws. */
function isPrompt(args: readonly string[], io: CommandIo): boolean {
  const { operands, unknown } = createProgram(io).parseOptions([...args]);
  return operands.length === 0 && unknown.length === 0;
}

async function runCommand(args: readonly string[], io: CommandIo): Promise<number> {
  try {
    await createProgram(io).parseAsync([...args], { from: 'user' });
    return exitCodes.ok;
  } catch (error) {
    return exitCodeFor(error, io);
  }
}

function exitCodeFor(error: unknown, { stderr }: CommandIo): number {
  if (error instanceof CommanderError)
    // Commander has said what is wrong; asking for help or the version is no mistake.
    return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
  if (error instanceof ExitError) {
    if (error.message !== '') stderr.write(`kvctl: ${error.message}\n`);
    return error.exitCode;
  }
  const text = error instanceof Error ? error.message : String(error);
  stderr.write(`kvctl: ${text}\n`);
  return error instanceof ClientError ? exitCodeOf(error) : exitCodes.refused;
}

function createProgram(io: CommandIo): Command {
  const program = new Command('kvctl')
    .description('Reads, writes and looks after a kvd cluster.')
    .version('0.1.0')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
    })
    .addOption(new Option('-o, --output <form>', 'how to print').choices(outputForms))
    .option('--consistency <level>', 'ANY, ONE, TWO, THREE, QUORUM, ALL or SERIAL')
    .option('--ns <namespace>', 'namespace')
    .option('--endpoint <url>', 'a node, repeatable; default KVCTL_ENDPOINT', collect)
    .option('--tls-ca <file>', 'authority of https endpoints; default KVCTL_TLS_CA')
    .option('--tls-cert <file>', 'own certificate; default KVCTL_TLS_CERT')
    .option('--tls-key <file>', 'its key; default KVCTL_TLS_KEY')
    .option('--token-file <file>', 'who you are; default KVCTL_TOKEN, KVCTL_TOKEN_FILE')
    .option('--base64-keys', 'keys and prefixes are given as base64: those that are no text')
    .option('-q, --quiet', 'print only what was asked for')
    .option('--timeout <ms>', 'over all attempts of a request', wholeNumber(1, timeoutMsMax));
  const invoke = (command: Command): Invocation =>
    new Invocation(io, command.optsWithGlobals<GlobalOptions>());
  addDataCommands(program, invoke);
  addSerialCommands(program, invoke);
  addBatchCommand(program, invoke);
  addWatchCommand(program, invoke);
  addTransferCommands(program, invoke);
  addClusterCommands(program, invoke);
  addExplainCommands(program, invoke);
  addTopCommand(program, invoke);
  addSimulatorCommands(program, invoke);
  addStorageCommands(program, invoke);
  addNamespaceCommands(program, invoke);
  addUserCommands(program, invoke);
  addSnapshotCommands(program, invoke);
  addRepairCommands(program, invoke);
  addBackupCommand(program, invoke);
  addRestoreCommand(program, invoke);
  addBenchCommand(program, invoke);
  addCompletionCommand(program, invoke);
  for (const name of plannedCommands) addPlanned(program, name);
  return program;
}

const collect = (value: string, earlier: readonly string[] = []): string[] => [...earlier, value];

function addPlanned(program: Command, name: string): void {
  program
    .command(name, { hidden: true })
    .argument('[arguments...]')
    .allowUnknownOption()
    .action(() => {
      throw new ExitError(exitCodes.refused, `${name}: not implemented yet`);
    });
}
