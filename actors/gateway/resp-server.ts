// Commands on the server: INFO, CONFIG GET, COMMAND, DBSIZE, TIME. What they say is what clients and
// tools ask for on connecting; figures are this node's, and nothing is made up for the rest.

import { failure } from '../../runtime/errors.ts';
import { Glob } from './glob.ts';
import { type RespCall, wordOf } from './resp-call.ts';
import {
  arityHolds,
  commandNamed,
  type CommandSpec,
  keysOf,
  respCommands,
} from './resp-commands.ts';
import { fail } from './resp-keys.ts';
import {
  errorReply,
  mapReply,
  nilArray,
  type Reply,
  status,
  syntaxError,
  tooLargeReply,
  verbatim,
} from './resp-replies.ts';
import type { RespHandler, RespHandlers, RespServices } from './resp-services.ts';
import { slowEntriesMax, slowMicros, spikeMs } from './resp-slow.ts';
import { redisVersion } from './resp-session.ts';
import { type Subcommand, withSubcommands } from './resp-subcommands.ts';
import { latin1, utf8 } from '../../runtime/bytes.ts';

const figuresTimeoutMs = 2000;

/**
 * About how many records the cluster has, in all namespaces and with marks of deletes: what the nodes
 * said last, each key counted once.
 */
function aboutKeys(
  call: RespCall,
  { ctx, gossiper, ring }: RespServices,
  found: (count: number) => void,
): void {
  ctx.ask(gossiper, 'states', {}, figuresTimeoutMs, (problem, reply) => {
    if (reply === undefined) return fail(call, problem ?? failure('BUG'));
    const copies = reply.states.reduce((sum, { load }) => sum + load.keys, 0);
    found(Math.round(copies / ring.replicationFactor));
  });
}

const dbsize: RespHandler = (call, services) =>
  aboutKeys(call, services, (count) => call.answer(count));

const time: RespHandler = (call, { ctx }) => {
  const micros = Math.floor(ctx.clock.wallMicros());
  call.answer([String(Math.floor(micros / 1_000_000)), String(micros % 1_000_000)]);
};

// ---- INFO ----------------------------------------------------------------------------------

type Section = readonly (readonly [name: string, value: string | number])[];

function sectionsOf(
  { ctx, connections, commandsServed, ring }: RespServices,
  keys: number,
): Readonly<Record<string, Section>> {
  return {
    Server: [
      ['redis_version', redisVersion],
      ['server_name', 'kvd'],
      ['redis_mode', 'standalone'],
      ['node_id', ctx.node],
    ],
    Clients: [['connected_clients', connections.size]],
    Persistence: [
      ['loading', 0],
      ['async_loading', 0],
    ],
    Stats: [['total_commands_processed', commandsServed()]],
    Replication: [
      ['role', 'master'],
      ['connected_slaves', 0],
      ['replication_factor', ring.replicationFactor],
    ],
    Cluster: [['cluster_enabled', 0]],
    Keyspace: keys === 0 ? [] : [['db0', `keys=${keys},expires=0,avg_ttl=0`]],
  };
}

const everySection: ReadonlySet<string> = new Set(['all', 'default', 'everything']);

const info: RespHandler = (call, services) =>
  aboutKeys(call, services, (keys) => {
    const wanted = call.args.slice(1).map(wordOf);
    const isWanted = (name: string): boolean =>
      wanted.length === 0 ||
      wanted.some((word) => everySection.has(word) || word === name.toLowerCase());
    const text = Object.entries(sectionsOf(services, keys))
      .filter(([name]) => isWanted(name))
      .map(([name, lines]) =>
        [`# ${name}`, ...lines.map(([field, value]) => `${field}:${value}`), ''].join('\r\n'),
      )
      .join('\r\n');
    call.answer(verbatim(text));
  });

// ---- CONFIG --------------------------------------------------------------------------------

/** What clients and benchmarks ask for; none can be set. */
const parameters = (services: RespServices): Readonly<Record<string, string>> => ({
  appendonly: 'yes',
  databases: String(services.guard.known.document.nextId),
  maxmemory: '0',
  'maxmemory-policy': 'noeviction',
  'notify-keyspace-events': '',
  'proto-max-bulk-len': String(services.settings.limits.valueBytes),
  save: '',
  'latency-monitor-threshold': String(spikeMs),
  'slowlog-log-slower-than': String(slowMicros),
  'slowlog-max-len': String(slowEntriesMax),
  timeout: '0',
});

/** Of one CONFIG GET. */
const patternsMax = 100;

/** For names, which are in lower case. */
const lowerGlob = (pattern: Uint8Array): Glob =>
  new Glob(utf8.encode(latin1(pattern).toLowerCase()));

const configGet: Subcommand = (call, services) => {
  if (call.args.length - 2 > patternsMax)
    return tooLargeReply(`CONFIG GET takes ${patternsMax} patterns`);
  const patterns = call.args.slice(2).map(lowerGlob);
  const found = Object.entries(parameters(services)).filter(([name]) =>
    patterns.some((pattern) => pattern.matches(utf8.encode(name))),
  );
  return mapReply(found.flat());
};

const notSettable: Subcommand = (call) =>
  errorReply(`ERR not implemented: CONFIG ${wordOf(call.arg(1)).toUpperCase()}`);

const config = withSubcommands('config', {
  get: [3, Infinity, configGet],
  set: [2, Infinity, notSettable],
  rewrite: [2, Infinity, notSettable],
  resetstat: [2, Infinity, notSettable],
  help: [
    2,
    2,
    () => [
      'CONFIG GET pattern ...: the few parameters that clients ask for',
      'CONFIG SET, REWRITE, RESETSTAT: not implemented; a node is set by its options when it starts',
    ],
  ],
});

// ---- COMMAND -------------------------------------------------------------------------------

const known = (): readonly CommandSpec[] => respCommands;

function commandInfo(spec: CommandSpec): Reply {
  const { name, arity, flags, firstKey, lastKey, keyStep, group } = spec;
  const categories = [`@${group}`, ...flags.filter((flag) => flag === 'fast').map(() => '@fast')];
  return [
    ...[name, arity, flags.map(status), firstKey, lastKey, keyStep],
    ...[categories.map(status), [], [], []],
  ];
}

function commandDocs({ summary, since, group }: CommandSpec): Reply {
  const place = group === 'kvd' ? 'module' : group;
  return mapReply(['summary', summary, 'since', since, 'group', place, 'complexity', 'O(1)']);
}

function commandList(call: RespCall): Reply {
  const names = known().map(({ name }) => name);
  if (call.args.length === 2) return names;
  const [filter, by, value] = call.args.slice(2);
  if (filter === undefined || by === undefined || value === undefined || call.args.length > 5)
    return syntaxError;
  if (wordOf(filter) !== 'filterby' || wordOf(by) !== 'pattern') return syntaxError;
  const pattern = lowerGlob(value);
  return names.filter((name) => pattern.matches(utf8.encode(name)));
}

function commandKeys(call: RespCall): Reply {
  const args = call.args.slice(2);
  const spec = args[0] === undefined ? undefined : commandNamed(wordOf(args[0]));
  if (spec === undefined) return errorReply('ERR Invalid command specified');
  if (!arityHolds(spec, args.length))
    return errorReply('ERR Invalid number of arguments specified for command');
  const found = keysOf(spec, args);
  return found.length === 0 ? errorReply('ERR The command has no key arguments') : found;
}

/** Of one COMMAND; a client may ask for all that Redis has. */
const namesMax = 1000;

/** `render` gets the commands that are named, or all. */
const ofNamed =
  (render: (specs: readonly (CommandSpec | undefined)[]) => Reply) =>
  (call: RespCall): Reply => {
    const names = call.args.slice(2);
    if (names.length === 0) return render(known());
    if (names.length > namesMax) return tooLargeReply(`COMMAND takes ${namesMax} names`);
    return render(names.map((name) => commandNamed(wordOf(name))));
  };

const aboutCommands = withSubcommands('command', {
  count: [2, Infinity, () => known().length],
  list: [2, Infinity, commandList],
  info: [
    2,
    Infinity,
    ofNamed((specs) => specs.map((spec) => (spec === undefined ? nilArray : commandInfo(spec)))),
  ],
  docs: [
    2,
    Infinity,
    ofNamed((specs) =>
      mapReply(specs.flatMap((spec) => (spec === undefined ? [] : [spec.name, commandDocs(spec)]))),
    ),
  ],
  getkeys: [2, Infinity, commandKeys],
  help: [
    2,
    2,
    () => [
      'COMMAND: all commands that this node knows',
      'COMMAND COUNT: how many they are',
      'COMMAND LIST [FILTERBY PATTERN pattern]: their names',
      'COMMAND INFO [name ...], COMMAND DOCS [name ...]: what they take, what they do',
      'COMMAND GETKEYS command [argument ...]: the keys in a command',
    ],
  ],
});

const command: RespHandler = (call, services) =>
  call.args.length === 1 ? call.answer(known().map(commandInfo)) : aboutCommands(call, services);

export const serverHandlers: RespHandlers = { dbsize, time, info, config, command };
