// A node's configuration: defaults, then the file, then KVD_* variables, then flags; later ones win.
// Unknown names and values out of range are refused with what was expected: a typo must not start
// a node with other settings than its operator believes.

import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { parse } from 'yaml';
import type { Member } from '../../actors/node/plan.ts';
import { type MemorySettings, splitMemory } from '../../actors/node/memory-budget.ts';
import {
  type Durability,
  durabilities,
  type SettingName,
  type Tunables,
  tunablesFrom,
} from '../../actors/node/settings.ts';
import { KvError } from '../../runtime/errors.ts';
import { environmentOptions } from './environment-options.ts';
import { readBootstrapToken } from './bootstrap-token.ts';
import { type NodeTls, readTlsFiles } from './tls-files.ts';
import { defaultProfile, defaultShards, type Profile } from '../../runtime/placement.ts';
import {
  type CompactionStrategy,
  type Compression,
  compactionStrategies,
  compressions,
} from '../../actors/model/table-choices.ts';

const authModes = ['off', 'required'] as const;
export type AuthMode = (typeof authModes)[number];

export interface NodeConfig {
  readonly nodeId: string;
  readonly clusterName: string;
  readonly dataDir: string;
  readonly host: string;
  readonly httpPort: number;
  /** Of the Redis protocol; undefined: not served. */
  readonly respPort: number | undefined;
  readonly internodePort: number;
  /** All members; empty: this node alone. */
  readonly seeds: readonly Member[];
  readonly profile: Profile;
  readonly shards: number;
  readonly durability: Durability;
  readonly compaction: CompactionStrategy;
  readonly compression: Compression;
  /** Directory for closed log segments; absent: they are not kept. */
  readonly walArchive?: string;
  readonly logLevel: 'debug' | 'info' | 'warn' | 'error';
  readonly logFormat: 'json' | 'pretty';
  readonly insecure: boolean;
  /** Whether clients have to say who they are. */
  readonly auth: AuthMode;
  /** Hash of the token that may make the first administrator. */
  readonly bootstrapHash?: string;
  /** Absent: nothing is encrypted. */
  readonly tls?: NodeTls;
  /** Starts with what is left where stored data is gone or damaged. Only as a flag: for one start. */
  readonly acceptDataLoss: boolean;
  readonly tunables: Tunables;
}

/** Names as in the file; flags are the same in kebab-case, variables in KVD_UPPER_SNAKE_CASE. */
const optionNames = [
  'nodeId',
  'clusterName',
  'dataDir',
  'host',
  'httpPort',
  'respPort',
  'internodePort',
  'seeds',
  'profile',
  'shards',
  'durability',
  'compaction',
  'compression',
  'walArchive',
  'memory',
  'logLevel',
  'logFormat',
  'insecure',
  'auth',
  'authBootstrapTokenFile',
  'tlsCert',
  'tlsKey',
  'tlsCa',
  'tlsClientAuth',
] as const;
type OptionName = (typeof optionNames)[number];

const defaults = {
  nodeId: 'n1',
  clusterName: 'kvd',
  dataDir: './kvd-data',
  host: '127.0.0.1',
  httpPort: 7000,
  respPort: 6379,
  internodePort: 7002,
  durability: 'group',
  compaction: 'leveled',
  compression: 'auto',
  logLevel: 'info',
  logFormat: 'json',
  insecure: false,
  auth: 'off',
  tlsClientAuth: false,
} as const satisfies Partial<Record<OptionName, unknown>>;

const unsupported = ['dc', 'rack', 'weight'] as const;

export type RawConfig = Readonly<Record<string, unknown>>;

export interface ConfigSources {
  /** Path of a YAML file. */
  readonly file: string | undefined;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** From the command line, camelCase. */
  readonly flags: RawConfig;
  /** From `--set name=value`. */
  readonly set: Readonly<Record<string, number>>;
  /** Logs are for a person unless a source says otherwise. Default false. */
  readonly isTerminal?: boolean;
  /** The budget where no source has one, bytes; absent: the defaults of the settings. */
  readonly memoryByDefault?: number;
}

/** BAD_REQUEST names the option and what was expected. */
export function loadConfig(sources: ConfigSources): NodeConfig {
  const { file, environment, flags, set, isTerminal = false, memoryByDefault: byDefault } = sources;
  const fromFile = file === undefined ? {} : readFile(file);
  const { settings: fileSettings = {}, ...fileOptions } = fromFile;
  refuseUnknown(fileOptions, file ?? '');
  const merged: RawConfig = {
    ...defaults,
    ...(isTerminal ? { logFormat: 'pretty' } : {}),
    ...given(fileOptions),
    ...environmentOptions(environment, [...optionNames, ...unsupported]),
    ...given(flags),
  };
  if (!isObject(fileSettings)) throw invalid('settings', 'a mapping of setting names to numbers');
  const shards = shardsOf(merged);
  const memory = merged['memory'] === undefined ? byDefault : memoryBytes(merged['memory']);
  const split = memory === undefined ? undefined : splitMemory(memory, shards.shards);
  const tunables = tunablesFrom({ ...split, ...fileSettings, ...set });
  const config: NodeConfig = {
    nodeId: nodeName(merged['nodeId'], 'nodeId'),
    clusterName: nodeName(merged['clusterName'], 'clusterName'),
    dataDir: text(merged['dataDir'], 'dataDir'),
    host: text(merged['host'], 'host'),
    httpPort: port(merged['httpPort'], 'httpPort'),
    respPort: respPort(merged['respPort']),
    internodePort: port(merged['internodePort'], 'internodePort'),
    seeds: seedList(merged['seeds']),
    ...shards,
    durability: oneOf(merged['durability'], durabilities, 'durability'),
    compaction: oneOf(merged['compaction'], compactionStrategies, 'compaction'),
    compression: oneOf(merged['compression'], compressions, 'compression'),
    ...(merged['walArchive'] === undefined
      ? {}
      : { walArchive: text(merged['walArchive'], 'walArchive') }),
    logLevel: oneOf(merged['logLevel'], ['debug', 'info', 'warn', 'error'] as const, 'logLevel'),
    logFormat: oneOf(merged['logFormat'], ['json', 'pretty'] as const, 'logFormat'),
    insecure: flag(merged['insecure'], 'insecure'),
    ...authOf(merged),
    ...tlsOf(merged),
    acceptDataLoss: flag(flags['acceptDataLoss'] ?? false, 'acceptDataLoss'),
    tunables,
  };
  refuseUnsupported(merged);
  check(config);
  checkSizes(config, { ...fileSettings, ...set }, split, merged['memory']);
  return config;
}

/** All three files or none. */
function tlsOf(merged: RawConfig): { tls?: NodeTls } {
  const requiresClientCertificate = flag(merged['tlsClientAuth'], 'tlsClientAuth');
  const names = ['tlsCert', 'tlsKey', 'tlsCa'] as const;
  const missing = names.find((name) => merged[name] === undefined);
  if (missing !== undefined) {
    if (requiresClientCertificate || names.some((name) => merged[name] !== undefined))
      throw invalid(missing, 'a file: tlsCert, tlsKey and tlsCa belong together');
    return {};
  }
  const [cert = '', key = '', ca = ''] = names.map((name) => text(merged[name], name));
  const paths = { cert, key, ca };
  const clusterName = nodeName(merged['clusterName'], 'clusterName');
  const material = readTlsFiles(paths, clusterName, nodeName(merged['nodeId'], 'nodeId'));
  return { tls: { paths, material, requiresClientCertificate } };
}

function authOf(merged: RawConfig): { auth: AuthMode; bootstrapHash?: string } {
  // YAML reads a bare `off` as text since 1.2; older writers mean false by it.
  const auth = merged['auth'] === false ? 'off' : oneOf(merged['auth'], authModes, 'auth');
  const path = merged['authBootstrapTokenFile'];
  if (path === undefined) return { auth };
  if (auth === 'off') throw invalid('authBootstrapTokenFile', 'nothing without --auth required');
  return { auth, bootstrapHash: readBootstrapToken(text(path, 'authBootstrapTokenFile')) };
}

function check({ host, insecure, seeds, nodeId, tls, auth }: NodeConfig): void {
  const isClosed = tls !== undefined && (tls.requiresClientCertificate || auth === 'required');
  if (!isLoopback(host) && !isClosed && !insecure)
    throw new KvError('BAD_REQUEST', {
      field: 'host',
      detail: `host ${host} is reachable from outside: use a loopback address, or certificates (--tls-cert, --tls-key, --tls-ca) with --tls-client-auth or --auth required, or say --insecure`,
    });
  if (seeds.length > 0 && !seeds.some(({ node }) => node === nodeId))
    throw invalid('seeds', `all members, this node (${nodeId}) among them`);
}

/** Sizes that each are in their range and make no sense together. */
function checkSizes(
  { tunables, shards }: NodeConfig,
  chosen: RawConfig,
  split: MemorySettings | undefined,
  memory: unknown,
): void {
  const { memtableBytes, walSegmentBytes, valueBytesMax } = tunables;
  // An arena and a segment hold any value all the same: this is about what somebody wrote down.
  const areChosen = (name: SettingName): boolean => 'valueBytesMax' in chosen && name in chosen;
  if (valueBytesMax > memtableBytes && areChosen('memtableBytes'))
    throw invalid('valueBytesMax', `at most memtableBytes (${memtableBytes})`);
  if (valueBytesMax > walSegmentBytes && areChosen('walSegmentBytes'))
    throw invalid('walSegmentBytes', `at least valueBytesMax (${valueBytesMax})`);
  if (memory === undefined || split === undefined) return;
  const takenBy = (sizes: Tunables): number =>
    shards * (sizes.memtableBytes * sizes.arenasPerShard + sizes.blockCacheBytes);
  // The least sizes may exceed the budget by themselves; what was set may not.
  const most = Math.max(memoryBytes(memory), takenBy({ ...tunables, ...split }));
  const taken = takenBy(tunables);
  if (taken > most)
    throw invalid('memory', `at least ${taken}, which memtables and block caches are set to take`);
}

function refuseUnsupported(merged: RawConfig): void {
  for (const name of unsupported)
    if (merged[name] !== undefined)
      throw new KvError('BAD_REQUEST', { field: name, detail: `${name} is not implemented yet` });
}

export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}

function readFile(path: string): RawConfig {
  let content: unknown;
  try {
    content = parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new KvError('BAD_REQUEST', {
      field: 'config',
      detail: `cannot read ${path}: ${(error as Error).message.split('\n', 1)[0] ?? ''}`,
    });
  }
  if (content === null) return {};
  if (!isObject(content)) throw invalid('config', `a YAML mapping in ${path}`);
  return content;
}

function isObject(value: unknown): value is RawConfig {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** What is absent or empty in one source leaves the word to the others. */
function given(options: RawConfig): RawConfig {
  return Object.fromEntries(
    Object.entries(options).filter(([, value]) => value !== undefined && value !== null),
  );
}

function refuseUnknown(options: RawConfig, where: string): void {
  for (const name of Object.keys(options)) {
    if (!([...optionNames, ...unsupported] as readonly string[]).includes(name))
      throw new KvError('BAD_REQUEST', { field: name, detail: `unknown option ${name} ${where}` });
  }
}

function invalid(field: string, expected: string): KvError {
  return new KvError('BAD_REQUEST', { field, detail: `${field}: expected ${expected}` });
}

function text(value: unknown, field: string): string {
  if (typeof value !== 'string' || value === '') throw invalid(field, 'text');
  return value;
}

/** Names that end up in file names, metrics and addresses (SE-26). */
function nodeName(value: unknown, field: string): string {
  const name = text(value, field);
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(name))
    throw invalid(field, '1 to 64 letters, digits, hyphens or underscores');
  return name;
}

function wholeNumber(value: unknown, field: string, low: number, high: number): number {
  const number = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value;
  if (typeof number !== 'number' || !Number.isInteger(number) || number < low || number > high)
    throw invalid(field, `a whole number from ${low} to ${high}`);
  return number;
}

const port = (value: unknown, field: string): number => wholeNumber(value, field, 0, 65_535);

/** A port, or `off`: undefined. */
function respPort(value: unknown): number | undefined {
  // YAML reads a bare `off` as text since 1.2; older writers mean false by it.
  return value === 'off' || value === false ? undefined : port(value, 'respPort');
}

function flag(value: unknown, field: string): boolean {
  if (value === true || value === 'true' || value === '1') return true;
  if (value === false || value === 'false' || value === '0') return false;
  throw invalid(field, 'true or false');
}

function oneOf<T extends string>(value: unknown, allowed: readonly T[], field: string): T {
  const found = allowed.find((candidate) => candidate === value);
  if (found === undefined) throw invalid(field, `one of ${allowed.join(', ')}`);
  return found;
}

/** `n1@127.0.0.1:7002,n2@127.0.0.1:7012`, or a list of such. */
export function seedList(value: unknown): Member[] {
  if (value === undefined) return [];
  const list: unknown[] = Array.isArray(value) ? value : text(value, 'seeds').split(',');
  const members = list.map((item): Member => {
    const match = /^([A-Za-z0-9_-]{1,64})@(.+):(\d{1,5})$/.exec(String(item).trim());
    if (match === null) throw invalid('seeds', 'members as id@host:port');
    const [, node = '', host = '', digits] = match;
    return { node, host, internodePort: wholeNumber(digits, 'seeds', 1, 65_535) };
  });
  if (new Set(members.map(({ node }) => node)).size !== members.length)
    throw invalid('seeds', 'each member once');
  return members;
}

function shardsOf(merged: RawConfig): { profile: Profile; shards: number } {
  const cores = availableParallelism();
  const profile = oneOf(
    merged['profile'] ?? defaultProfile(cores),
    ['single', 'small', 'wide'] as const,
    'profile',
  );
  const shards = wholeNumber(merged['shards'] ?? defaultShards(profile, cores), 'shards', 1, 64);
  return { profile, shards };
}

/** A memory budget (actors/node/memory-budget.ts): `512M`, `2G`, or bytes. */
function memoryBytes(value: unknown): number {
  const match = /^(\d+)([kmgKMG]?)$/.exec(String(value));
  if (match === null) throw invalid('memory', 'bytes, or a number with K, M or G');
  const unit = { '': 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3 }[(match[2] ?? '').toLowerCase()] ?? 1;
  return Number(match[1]) * unit;
}
