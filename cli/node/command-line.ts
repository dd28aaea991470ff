// The command line of kvd. Flags have the names of the configuration file in kebab-case; what is
// not there yet is refused by name instead of being taken and ignored.

import { Command, CommanderError } from 'commander';
import { defaultMemory } from '../../actors/node/memory-budget.ts';
import { machineMemoryBytes } from '../../runtime/host/machine-memory.ts';
import { KvError } from '../../runtime/errors.ts';
import { certsCommand } from '../certs/command.ts';
import { type ConfigSources, loadConfig, type NodeConfig, type RawConfig } from './config.ts';
import { runDev } from './dev.ts';
import { tokenCommand } from './bootstrap-token.ts';
import { exitCodes, startFailure } from './exit-codes.ts';
import { runNode } from './node-process.ts';

/** Ends the process itself: a node runs until it is told to stop. */
export async function main(args: readonly string[]): Promise<void> {
  const program = nodeCommand();
  program.addCommand(devCommand());
  program.addCommand(configCommand());
  program.addCommand(certsCommand());
  program.addCommand(tokenCommand());
  try {
    await program.parseAsync([...args], { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
      return;
    }
    const { code, line } = startFailure(error);
    process.stderr.write(`kvd: ${line}\n`);
    process.exitCode = code;
  }
}

function withNodeOptions(command: Command): Command {
  return command
    .option('--config <file>', 'YAML file with the options below in camelCase, and `settings`')
    .option('--node-id <id>', 'name of this node (default n1)')
    .option('--cluster-name <name>', 'nodes of other clusters are refused (default kvd)')
    .option('--data-dir <dir>', 'where everything is kept (default ./kvd-data)')
    .option('--host <address>', 'address to listen on (default 127.0.0.1)')
    .option('--http-port <port>', 'REST (default 7000)')
    .option('--resp-port <port>', 'Redis protocol, or off (default 6379)')
    .option(
      '--internode-port <port>',
      'other nodes; one port per thread from here on (default 7002)',
    )
    .option('--seeds <list>', 'all members: id@host:port,id@host:port (default: this node alone)')
    .option('--profile <profile>', 'single, small or wide (default: by the number of cores)')
    .option('--shards <count>', 'shards of this node (default: by profile)')
    .option('--durability <how>', 'group, periodic or none (default group)')
    .option('--compaction <how>', 'leveled, size-tiered or time-window (default leveled)')
    .option('--compression <how>', 'of tables: auto, none, lz4 or zstd (default auto)')
    .option('--wal-archive <dir>', 'keep closed log files there, to restore to a point in time')
    .option(
      '--memory <size>',
      'memtables and caches, such as 512M (default: a quarter of the machine, up to 1G)',
    )
    .option('--log-level <level>', 'debug, info, warn or error (default info)')
    .option('--log-format <format>', 'json or pretty (default: pretty on a terminal)')
    .option('--accept-data-loss', 'start with what is left where stored data is gone or damaged')
    .option('--tls-cert <file>', 'certificate of this node: clients and nodes connect with TLS')
    .option('--tls-key <file>', 'its key')
    .option('--tls-ca <file>', 'authority of the cluster (kvd certs)')
    .option('--tls-client-auth', 'clients have to show a certificate of the authority')
    .option('--auth <mode>', 'required: clients have to show a token; off (default)')
    .option(
      '--auth-bootstrap-token-file <file>',
      'a token that may make the first administrator (kvd token)',
    )
    .option('--insecure', 'listen beyond loopback without certificates of clients')
    .option(
      '--set <name=value>',
      'a setting of docs/configuration.md; may be repeated',
      collectSet,
      {},
    );
}

/** One more `--set name=value`; whether there is such a setting is said with its range, later. */
export function collectSet(text: string, previous: Record<string, number>): Record<string, number> {
  const match = /^([A-Za-z][A-Za-z0-9]*)=(\d+)$/.exec(text);
  if (match === null)
    throw new KvError('BAD_REQUEST', { field: 'set', detail: '--set: expected name=number' });
  return { ...previous, [match[1] ?? '']: Number(match[2]) };
}

function nodeCommand(): Command {
  const command = new Command('kvd')
    .description(
      'A node of a distributed key-value store. Without arguments: one node on loopback.',
    )
    .version('0.1.0')
    .exitOverride()
    .enablePositionalOptions();
  withNodeOptions(command).action(async (_: unknown, self: Command) => {
    if (self.args.length > 0)
      throw new KvError('BAD_REQUEST', { detail: `unknown command ${self.args[0] ?? ''}` });
    const sources = sourcesOf(self);
    await runNode(loadConfig(sources));
  });
  return command;
}

function devCommand(): Command {
  return new Command('dev')
    .description('A whole local cluster, one process per node')
    .exitOverride()
    .option('--nodes <count>', 'nodes', '3')
    .option('--base-port <port>', 'node i listens on this + 10 * i', '7000')
    .option('--data-dir <dir>', 'one directory per node in here', './kvd-data')
    .option('--replication <copies>', 'copies of each key (default: 3, or the number of nodes)')
    .option('--durability <how>', 'group, periodic or none (default group)')
    .option('--compaction <how>', 'leveled, size-tiered or time-window (default leveled)')
    .option('--compression <how>', 'of tables: auto, none, lz4 or zstd (default auto)')
    .option('--wal-archive <dir>', 'keep closed log files of all nodes there')
    .option('--auth <mode>', 'required: clients have to show a token; off (default)')
    .option('--auth-bootstrap-token-file <file>', 'a token that may make the first administrator')
    .option('--load <file>', 'JSON lines (or .gz) to import once every node serves')
    .option('--key-field <name>', 'with --load: the field that holds the key')
    .option('--prefix <text>', 'with --load: in front of every key')
    .option('--set <name=value>', 'a setting for every node; may be repeated', collectSet, {})
    .action(async (options: Record<string, unknown>) => {
      await runDev(options);
    });
}

function configCommand(): Command {
  const config = new Command('config').description('Look at the configuration').exitOverride();
  const check = withNodeOptions(new Command('check').description('Say whether it is valid'));
  check.exitOverride().action((_: unknown, self: Command) => {
    loadConfig(sourcesOf(self));
    process.stdout.write('the configuration is valid\n');
  });
  const print = withNodeOptions(new Command('print').description('Print it with every default'));
  print.exitOverride().action((_: unknown, self: Command) => {
    process.stdout.write(`${printable(loadConfig(sourcesOf(self)))}\n`);
  });
  return config.addCommand(check).addCommand(print);
}

/** Without what the files of certificates and tokens hold (rule SE-28). */
function printable({ tls, bootstrapHash, ...config }: NodeConfig): string {
  const shown = tls === undefined ? {} : { tls: { ...tls, material: undefined } };
  const begun = bootstrapHash === undefined ? {} : { hasBootstrapToken: true };
  return JSON.stringify({ ...config, ...begun, ...shown }, null, 2);
}

function sourcesOf(command: Command): ConfigSources {
  const { config, set, ...flags } = command.opts<
    RawConfig & { config?: string; set: Record<string, number> }
  >();
  return {
    file: config,
    environment: process.env,
    flags,
    set,
    isTerminal: process.stdout.isTTY,
    memoryByDefault: defaultMemory(machineMemoryBytes()),
  };
}
