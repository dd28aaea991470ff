// The table of commands of the Redis protocol: what each one takes (arity counts the name, negative
// means at least), which arguments are keys, and whether it is served. It drives the checks before a
// command runs, COMMAND and its subcommands, and docs/redis.md. Names, arities, flags and key
// positions are those of redis/redis src/commands/*.json (7.0); names with a dot are kvd's own.

export type CommandGroup = 'string' | 'generic' | 'connection' | 'server' | 'transactions' | 'kvd';

export interface CommandSpec {
  readonly name: string;
  /** Arguments with the name; negative: at least so many. */
  readonly arity: number;
  readonly flags: readonly string[];
  /** 0: no keys. */
  readonly firstKey: number;
  /** Negative: counted from the end. */
  readonly lastKey: number;
  readonly keyStep: number;
  readonly group: CommandGroup;
  readonly since: string;
  readonly summary: string;
  /** Which deadline it has, and whether its keys may be shared with others that run. */
  readonly verb: 'read' | 'write' | 'scan' | 'flush' | 'none';
  /** Runs alone among the commands of its connection. */
  readonly isBarrier: boolean;
  /** Reads the key and writes it without losing what others write meanwhile: serial-operations.ts. */
  readonly isSerial: boolean;
  /** Why it is not served; undefined: it is. */
  readonly missing: string | undefined;
}

type Keys = readonly [first: number, last: number, step: number];
type Options = Partial<Pick<CommandSpec, 'isBarrier' | 'isSerial' | 'missing' | 'verb'>>;

const noKeys: Keys = [0, 0, 0];
const oneKey: Keys = [1, 1, 1];
const allKeys: Keys = [1, -1, 1];
const pairs: Keys = [1, -1, 2];
const twoKeys: Keys = [1, 2, 1];

const readFast = ['readonly', 'fast'];
const read = ['readonly'];
const write = ['write', 'denyoom'];
const writeFast = ['write', 'denyoom', 'fast'];
const change = ['write', 'fast'];
const simple = ['loading', 'stale', 'fast'];
const control = ['noscript', 'loading', 'stale', 'fast'];

type Row = [
  name: string,
  since: string,
  arity: number,
  flags: readonly string[],
  keys: Keys,
  summary: string,
  options?: Options,
];

function row(group: CommandGroup, cells: Row): CommandSpec {
  const [name, since, arity, flags, keys, summary, options = {}] = cells;
  const [firstKey, lastKey, keyStep] = keys;
  const isWrite = flags.includes('write');
  const { verb = firstKey === 0 ? 'none' : isWrite ? 'write' : 'read' } = options;
  const { isBarrier = false, isSerial = false, missing } = options;
  return {
    ...{ name, arity, flags, firstKey, lastKey, keyStep, group, since, summary },
    ...{ verb, isBarrier, isSerial, missing },
  };
}

const rows = (group: CommandGroup, list: readonly Row[]): CommandSpec[] =>
  list.map((cells) => row(group, cells));

const serial: Options = { isSerial: true };
/** What it sets holds for all commands after it, and for none before. */
const alone: Options = { isBarrier: true };
const flushing: Options = { isBarrier: true, verb: 'flush' };
const paging: Options = { isBarrier: true, verb: 'scan' };

const strings = rows('string', [
  ['get', '1.0.0', 2, readFast, oneKey, 'The value of a key.'],
  ['set', '1.0.0', -3, write, oneKey, 'Sets a key: EX, PX, EXAT, PXAT, KEEPTTL, NX, XX, GET.'],
  ['setex', '2.0.0', 4, write, oneKey, 'Sets a key that expires after seconds.'],
  ['psetex', '2.6.0', 4, write, oneKey, 'Sets a key that expires after milliseconds.'],
  ['getdel', '6.2.0', 2, change, oneKey, 'The value of a key, which is deleted.', serial],
  [
    'delex',
    '8.4.0',
    -2,
    change,
    oneKey,
    'Deletes a key, with IFEQ only where its value is this one.',
    serial,
  ],
  ['getex', '6.2.0', -2, change, oneKey, 'The value of a key, whose time to live changes.', serial],
  ['mget', '1.0.0', -2, readFast, allKeys, 'The values of several keys.'],
  ['mset', '1.0.1', -3, write, pairs, 'Sets several keys; not atomic.'],
  ['strlen', '2.2.0', 2, readFast, oneKey, 'Bytes of the value of a key.'],
  ['getrange', '2.4.0', 4, read, oneKey, 'A part of the value of a key.'],
  ['substr', '1.0.0', 4, read, oneKey, 'GETRANGE under its old name.'],
  ['setnx', '1.0.0', 3, writeFast, oneKey, 'Sets a key that does not exist.', serial],
  ['getset', '1.0.0', 3, writeFast, oneKey, 'Sets a key; the value before.', serial],
  [
    'msetnx',
    '1.0.1',
    -3,
    write,
    pairs,
    'Sets several keys of one hash tag, where none of them exists.',
    serial,
  ],
  ['append', '2.0.0', 3, writeFast, oneKey, 'Appends to the value of a key.', serial],
  ['setrange', '2.2.0', 4, write, oneKey, 'Overwrites a part of the value.', serial],
  ['incr', '1.0.0', 2, writeFast, oneKey, 'Adds one to an integer.', serial],
  ['incrby', '1.0.0', 3, writeFast, oneKey, 'Adds to an integer.', serial],
  ['incrbyfloat', '2.6.0', 3, writeFast, oneKey, 'Adds to a number.', serial],
  ['decr', '1.0.0', 2, writeFast, oneKey, 'Takes one from an integer.', serial],
  ['decrby', '1.0.0', 3, writeFast, oneKey, 'Takes from an integer.', serial],
]);

const keys = rows('generic', [
  ['del', '1.0.0', -2, ['write'], allKeys, 'Deletes keys; how many there were.'],
  ['unlink', '4.0.0', -2, change, allKeys, 'As DEL.'],
  ['exists', '1.0.0', -2, readFast, allKeys, 'How many of the keys exist.'],
  ['touch', '3.2.1', -2, readFast, allKeys, 'As EXISTS.'],
  ['type', '1.0.0', 2, readFast, oneKey, '`string`, or `none` where there is no such key.'],
  ['ttl', '1.0.0', 2, readFast, oneKey, 'Seconds to live; -1 for ever, -2 no such key.'],
  ['pttl', '2.6.0', 2, readFast, oneKey, 'Milliseconds to live.'],
  ['expiretime', '7.0.0', 2, readFast, oneKey, 'When a key expires, seconds since 1970.'],
  ['pexpiretime', '7.0.0', 2, readFast, oneKey, 'When a key expires, milliseconds since 1970.'],
  ['expire', '1.0.0', -3, change, oneKey, 'Seconds to live from now: NX, XX, GT, LT.', serial],
  ['pexpire', '2.6.0', -3, change, oneKey, 'Milliseconds to live from now.', serial],
  ['expireat', '1.2.0', -3, change, oneKey, 'Expires at seconds since 1970.', serial],
  ['pexpireat', '2.6.0', -3, change, oneKey, 'Expires at milliseconds since 1970.', serial],
  ['persist', '2.2.0', 2, change, oneKey, 'Lets a key live for ever.', serial],
  ['scan', '2.8.0', -2, read, noKeys, 'Keys, page by page: MATCH, COUNT, TYPE.', paging],
  ['keys', '1.0.0', 2, read, noKeys, 'All keys that match a pattern, up to 100,000.', paging],
  [
    'randomkey',
    '1.0.0',
    1,
    read,
    noKeys,
    'One of the next 1,000 keys behind a place that moves on.',
    paging,
  ],
  ['rename', '1.0.0', 3, ['write'], twoKeys, 'Renames a key, within its hash tag.', serial],
  ['renamenx', '1.0.0', 3, change, twoKeys, 'The same where the new name is free.', serial],
  ['copy', '6.2.0', -3, write, twoKeys, 'Copies a key, within its hash tag: REPLACE.', serial],
  ['wait', '3.0.0', 3, ['noscript'], noKeys, 'Copies beside the first that every write had.'],
]);

const connection = rows('connection', [
  ['hello', '6.0.0', -1, simple, noKeys, 'Version 2 or 3 of the protocol: AUTH, SETNAME.', alone],
  ['auth', '1.0.0', -2, simple, noKeys, 'Says who it is: a token, or a user and a token.', alone],
  ['ping', '1.0.0', -1, ['fast'], noKeys, 'PONG, or the argument.'],
  ['echo', '1.0.0', 2, ['fast'], noKeys, 'The argument.'],
  ['select', '1.0.0', 2, simple, noKeys, 'Chooses a namespace by number; 0 is default.', alone],
  ['quit', '1.0.0', -1, simple, noKeys, 'Ends the connection.'],
  ['reset', '6.2.0', 1, simple, noKeys, 'Brings the connection back to how it began.', alone],
  [
    'client',
    '2.4.0',
    -2,
    ['loading', 'stale'],
    noKeys,
    'ID, INFO, LIST, GETNAME, SETNAME, SETINFO, REPLY, NO-EVICT, NO-TOUCH.',
  ],
]);

const server = rows('server', [
  ['command', '2.8.13', -1, ['loading', 'stale'], noKeys, 'This table: COUNT, LIST, INFO, DOCS.'],
  ['info', '1.0.0', -1, ['loading', 'stale'], noKeys, 'Figures of this node.'],
  [
    'config',
    '2.0.0',
    -2,
    ['admin', 'noscript', 'loading', 'stale'],
    noKeys,
    'GET of the few parameters that clients ask for.',
  ],
  [
    'dbsize',
    '1.0.0',
    1,
    readFast,
    noKeys,
    'About how many records all namespaces have, marks of deletes included.',
    { verb: 'read' },
  ],
  ['time', '2.6.0', 1, simple, noKeys, 'Seconds and microseconds since 1970.'],
  ['memory', '4.0.0', -2, read, noKeys, 'USAGE key: bytes of a record.', { verb: 'read' }],
  [
    'cluster',
    '3.0.0',
    -2,
    ['stale'],
    noKeys,
    'INFO, NODES, SLOTS, SHARDS, MYID, KEYSLOT: as one node with every slot.',
  ],
  ['flushdb', '1.0.0', -1, ['write'], noKeys, 'Deletes the keys of the namespace.', flushing],
  ['flushall', '1.0.0', -1, ['write'], noKeys, 'Deletes the keys of all namespaces.', flushing],
  ['debug', '1.0.0', -2, ['admin'], noKeys, 'Off, also SLEEP.', { missing: 'debugging commands' }],
  [
    'latency',
    '2.8.13',
    -2,
    ['admin'],
    noKeys,
    'LATEST, HISTORY, RESET, DOCTOR: commands of 100 ms and longer.',
  ],
  [
    'slowlog',
    '2.2.12',
    -2,
    ['admin'],
    noKeys,
    'GET, LEN, RESET: the last 128 commands of 10 ms and longer.',
  ],
]);

const transactions = rows('transactions', [
  ['multi', '1.2.0', 1, control, noKeys, 'Begins a transaction on keys of one hash tag.'],
  ['exec', '1.2.0', 1, control, noKeys, 'Runs a transaction, as one.', { ...alone, verb: 'write' }],
  ['discard', '2.0.0', 1, control, noKeys, 'Drops a transaction, and all watches.'],
  ['watch', '2.2.0', -2, control, allKeys, 'EXEC does nothing where a key has changed.', alone],
  ['unwatch', '2.2.0', 1, simple, noKeys, 'Watches nothing.'],
]);

const own = rows('kvd', [
  ['kv.consistency', '0.1.0', -1, simple, noKeys, 'The level of this connection; sets it.'],
  ['kv.cas', '0.1.0', 4, writeFast, oneKey, 'Key, expected value, new value.', serial],
  [
    'kv.explain',
    '0.1.0',
    2,
    read,
    oneKey,
    'How a key is read: replicas, their times and etags, as JSON.',
  ],
]);

/** All commands, by group. */
export const respCommands: readonly CommandSpec[] = [
  ...strings,
  ...keys,
  ...connection,
  ...server,
  ...transactions,
  ...own,
];

const byName: ReadonlyMap<string, CommandSpec> = new Map(
  respCommands.map((spec) => [spec.name, spec]),
);

const lower = (byte: number): number => (byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte);

/** By length, first and last letter: a few names share a place. */
const places = 512;
const byPlace = Array.from({ length: places }, (): CommandSpec[] => []);
for (const spec of respCommands) byPlace[placeOf(nameBytes(spec))]?.push(spec);

function nameBytes({ name }: CommandSpec): Uint8Array {
  return Uint8Array.from(name, (letter) => letter.charCodeAt(0));
}

function placeOf(name: Uint8Array): number {
  const { length } = name;
  const ends = lower(name[0] ?? 0) * 7 + lower(name[length - 1] ?? 0) * 31;
  return (ends + length * 67) & (places - 1);
}

/** As a client sent it, in any case: the hot path makes no text of it. */
export function commandSent(name: Uint8Array): CommandSpec | undefined {
  return (byPlace[placeOf(name)] ?? []).find(({ name: known }) => {
    if (known.length !== name.length) return false;
    for (let i = 0; i < name.length; i += 1)
      if (lower(name[i] as number) !== known.charCodeAt(i)) return false;
    return true;
  });
}

/** `name`: in lower case. */
export const commandNamed = (name: string): CommandSpec | undefined => byName.get(name);

/** Stands for a name that is not in the table. */
export const unknownCommand: CommandSpec = row('server', ['', '', -1, [], noKeys, '']);

export function arityHolds({ arity }: CommandSpec, count: number): boolean {
  return arity < 0 ? count >= -arity : count === arity;
}

/** The arguments of a command that are keys. */
export function keysOf(
  { firstKey, lastKey, keyStep }: CommandSpec,
  args: readonly Uint8Array[],
): Uint8Array[] {
  const found: Uint8Array[] = [];
  if (firstKey === 0) return found;
  const last = lastKey < 0 ? args.length + lastKey : Math.min(lastKey, args.length - 1);
  for (let at = firstKey; at <= last; at += keyStep) found.push(args[at] as Uint8Array);
  return found;
}
