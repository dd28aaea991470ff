// Namespaces: what a cluster agrees on about each of them, as one numbered document, and the
// questions that are asked of it on the way of a request. Users (users.ts) are in the same document:
// a role and the namespace that it is for change together.
//
// A namespace has a name for people and an id that stands before its keys. Ids grow and are never
// given out again, so what is dropped stays unreachable whatever is created under its name later,
// and a document needs no list of the dropped: every id below the next one that is not in it is one.
//
// Invariant: a document is only ever replaced by one of a higher epoch, which has at least the same
// next id; `default` (id 0) is in every document (model.md section 1).

import { KvError } from '../../runtime/errors.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { isSerial, type Level, levels } from './consistency.ts';
import { namespaceOf, privateNamespaces } from './record.ts';
import {
  type CompactionStrategy,
  compactionStrategies,
  type Compression,
  compressions,
} from './table-choices.ts';
import { type User, usersFrom } from './users.ts';

/** `lww`: the newest write wins. `siblings`: all that nobody has seen stay. */
export type ConflictMode = 'lww' | 'siblings';
export const conflictModes: readonly unknown[] = ['lww', 'siblings'];

export interface NamespaceSettings {
  /** Who is responsible; a name for people. */
  readonly owner: string;
  /** Level of requests that name none; empty: as the node is configured. */
  readonly readLevel: string;
  readonly writeLevel: string;
  /** What becomes of concurrent writes. */
  readonly conflicts: ConflictMode;
  /** Lifetime of a value that is written without one, seconds; 0: it never expires. */
  readonly ttlSeconds: number;
  /** Longest lifetime, also of values that are written without one; seconds, 0: no limit. */
  readonly ttlSecondsMax: number;
  /** Quotas; 0: no limit. */
  readonly bytesMax: number;
  readonly keysMax: number;
  readonly operationsPerSecondMax: number;
  /** How its tables are merged and packed; empty: as the node is configured. */
  readonly compaction: CompactionStrategy | '';
  readonly compression: Compression | '';
}

export interface Namespace extends NamespaceSettings {
  readonly name: string;
  readonly id: number;
  /** Milliseconds since 1970. */
  readonly createdMs: number;
}

/** What a namespace holds: live keys, and their bytes with those of the values. */
export interface Usage {
  readonly id: number;
  readonly keys: number;
  readonly bytes: number;
}

export interface CatalogDocument {
  /** Counts the changes. */
  readonly epoch: number;
  /** The id of the namespace that is created next. */
  readonly nextId: number;
  /** Sorted by id; the first is `default`. */
  readonly namespaces: readonly Namespace[];
  readonly users: readonly User[];
}

/** Of the whole document: it is one value, and one message. */
export const documentBytesMax = 1024 * 1024;
export const namespacesMax = 1000;
/** Users' namespaces have ids below it; what the cluster keeps for itself lies from here on. */
export const systemNamespace = 0x7fff_fff1;
/** In the system namespace: whose value is the document. */
export const catalogKey = utf8.encode('catalog');
export const ttlSecondsLimit = 10 * 365 * 24 * 3600;
const namePattern = /^[A-Za-z0-9_-]{1,64}$/;
const ownerPattern = /^[\x20-\x7e]{0,128}$/;

export const plainSettings: NamespaceSettings = {
  owner: '',
  readLevel: '',
  writeLevel: '',
  conflicts: 'lww',
  ttlSeconds: 0,
  ttlSecondsMax: 0,
  bytesMax: 0,
  keysMax: 0,
  operationsPerSecondMax: 0,
  compaction: '',
  compression: '',
};

/** Of documents from before these could be chosen. */
const unchosenTables = { compaction: '', compression: '' } as const;

export const defaultNamespace = 'default';

/** What holds before anything was changed. */
export const firstDocument: CatalogDocument = {
  epoch: 0,
  nextId: 1,
  namespaces: [{ ...plainSettings, name: defaultNamespace, id: 0, createdMs: 0 }],
  users: [],
};

export const isNamespaceName = (text: string): boolean => namePattern.test(text);

// ---- checks ----------------------------------------------------------------------------------

type Fields = Readonly<Record<string, unknown>>;

const isCount = (value: unknown, max = Number.MAX_SAFE_INTEGER): boolean =>
  Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= max;

const isLevel = (value: unknown): boolean =>
  value === '' || (levels as readonly unknown[]).includes(value);

export interface SettingProblem {
  readonly field: string;
  readonly expected: string;
}

const bad = (field: string, expected: string): SettingProblem => ({ field, expected });

/** The first setting that cannot be, with what it could be; undefined: all can. */
export function settingsProblem(settings: Fields): SettingProblem | undefined {
  const { owner, conflicts } = settings;
  if (typeof owner !== 'string' || !ownerPattern.test(owner))
    return bad('owner', 'up to 128 printable ASCII characters');
  if (!conflictModes.includes(conflicts)) return bad('conflicts', 'lww or siblings');
  return (
    levelProblem(settings) ??
    ttlProblem(settings) ??
    quotaProblem(settings) ??
    tableProblem(settings)
  );
}

/**
 * What no change may bring together, though each setting is possible: a decision gives one value, so
 * a serial level has no place where values stand beside each other. Documents from before have it.
 */
export function togetherProblem(
  settings: Pick<NamespaceSettings, 'readLevel' | 'writeLevel' | 'conflicts'>,
): SettingProblem | undefined {
  if (settings.conflicts !== 'siblings') return undefined;
  const expected = 'no serial level with conflicts: siblings';
  const { readLevel, writeLevel } = settings;
  if (isSerial(readLevel as Level)) return bad('default_consistency.read', expected);
  if (isSerial(writeLevel as Level)) return bad('default_consistency.write', expected);
  return undefined;
}

function tableProblem({ compaction, compression }: Fields): SettingProblem | undefined {
  const isOneOf = (words: readonly unknown[], word: unknown): boolean =>
    word === '' || words.includes(word);
  if (!isOneOf(compactionStrategies, compaction))
    return bad('compaction', `${compactionStrategies.join(', ')}, or empty`);
  if (!isOneOf(compressions, compression))
    return bad('compression', `${compressions.join(', ')}, or empty`);
  return undefined;
}

function levelProblem({ readLevel, writeLevel }: Fields): SettingProblem | undefined {
  if (!isLevel(readLevel) || readLevel === 'EACH_QUORUM' || readLevel === 'SESSION')
    return bad('default_consistency.read', 'a level of reads, or empty');
  if (!isLevel(writeLevel) || writeLevel === 'SESSION')
    return bad('default_consistency.write', 'a level of writes, or empty');
  return undefined;
}

function ttlProblem({ ttlSeconds, ttlSecondsMax }: Fields): SettingProblem | undefined {
  const seconds = `a whole number of seconds up to ${ttlSecondsLimit}, 0 for none`;
  if (!isCount(ttlSeconds, ttlSecondsLimit)) return bad('default_ttl', seconds);
  if (!isCount(ttlSecondsMax, ttlSecondsLimit)) return bad('max_ttl', seconds);
  if (ttlSecondsMax !== 0 && (ttlSeconds as number) > (ttlSecondsMax as number))
    return bad('default_ttl', 'at most max_ttl');
  return undefined;
}

function quotaProblem(settings: Fields): SettingProblem | undefined {
  const quota = 'a whole number up to 2^53 - 1, 0 for no limit';
  for (const [name, field] of quotaFields)
    if (!isCount(settings[name])) return bad(`quotas.${field}`, quota);
  return undefined;
}

const quotaFields = [
  ['bytesMax', 'bytes'],
  ['keysMax', 'keys'],
  ['operationsPerSecondMax', 'operations_per_second'],
] as const;

/** A node of before there were users must not take a document with some for one without. */
const formats = { plain: 1, withUsers: 2 } as const;

export function encodeCatalog({ users, ...rest }: CatalogDocument): Uint8Array {
  const text =
    users.length === 0
      ? JSON.stringify({ format: formats.plain, ...rest })
      : JSON.stringify({ format: formats.withUsers, ...rest, users });
  return utf8.encode(text);
}

/** The document of these bytes; BAD_REQUEST where they are none. */
export function decodeCatalog(bytes: Uint8Array): CatalogDocument {
  const fields = parsed(bytes);
  const { format, epoch, nextId, namespaces } = fields;
  if (!Object.values<unknown>(formats).includes(format)) refuse('it is of another format');
  if (!isCount(epoch) || !isCount(nextId, systemNamespace)) refuse('its numbers are no numbers');
  const users = format === formats.plain ? [] : usersFrom(fields['users'], nextId as number);
  if (typeof users === 'string') return refuse(users);
  return {
    epoch: epoch as number,
    nextId: nextId as number,
    namespaces: namespacesFrom(namespaces, nextId as number),
    users,
  };
}

function namespacesFrom(value: unknown, nextId: number): readonly Namespace[] {
  if (!Array.isArray(value) || value.length > namespacesMax)
    return refuse('it has no list of namespaces');
  const decoded = value.map((each) => namespaceFrom(each, nextId));
  const isOrdered = decoded.every(({ id }, i) => id > (decoded[i - 1]?.id ?? -1));
  const isUnique = new Set(decoded.map(({ name }) => name)).size === decoded.length;
  if (!isOrdered || !isUnique) refuse('a namespace is in it twice');
  if (decoded[0]?.id !== 0 || decoded[0].name !== defaultNamespace) refuse('default is missing');
  return decoded;
}

function parsed(bytes: Uint8Array): Fields {
  try {
    const value: unknown = JSON.parse(utf8.decode(bytes));
    if (typeof value === 'object' && value !== null) return value as Fields;
  } catch {
    // Said below.
  }
  return refuse('it is no JSON object');
}

function namespaceFrom(value: unknown, nextId: number): Namespace {
  if (typeof value !== 'object' || value === null) return refuse('a namespace is no object');
  const fields: Fields = { ...unchosenTables, ...value };
  const { name, id, createdMs } = fields;
  if (typeof name !== 'string' || !isNamespaceName(name)) refuse('a namespace has no name');
  if (!isCount(id, nextId - 1)) refuse('a namespace has no id');
  if (!isCount(createdMs)) refuse('a namespace has no date');
  const problem = settingsProblem(fields);
  if (problem !== undefined) refuse(`${problem.field} is not as it must be`);
  const settings: Record<string, unknown> = {};
  for (const key of Object.keys(plainSettings)) settings[key] = fields[key];
  return { ...(settings as unknown as NamespaceSettings), name, id, createdMs } as Namespace;
}

function refuse(why: string): never {
  throw new KvError('BAD_REQUEST', { detail: `bad catalog: ${why}` });
}

// ---- questions -------------------------------------------------------------------------------

/** A document, to look things up in. */
export class Namespaces {
  readonly document: CatalogDocument;
  readonly #byName: ReadonlyMap<string, Namespace>;
  readonly #byId: ReadonlyMap<number, Namespace>;

  constructor(document: CatalogDocument) {
    this.document = document;
    this.#byName = new Map(document.namespaces.map((each) => [each.name, each]));
    this.#byId = new Map(document.namespaces.map((each) => [each.id, each]));
  }

  get epoch(): number {
    return this.document.epoch;
  }

  named(name: string): Namespace | undefined {
    return this.#byName.get(name);
  }

  withId(id: number): Namespace | undefined {
    return this.#byId.get(id);
  }

  /** Was there and is no more. One that this document does not know yet was not. */
  isDropped(id: number): boolean {
    return id > 0 && id < this.document.nextId && !this.#byId.has(id);
  }

  /** The same of a storage key; what a replica keeps for itself goes with what it is about. */
  isDroppedKey(key: Uint8Array): boolean {
    const id = namespaceOf(key);
    return this.isDropped(id >= privateNamespaces ? id - privateNamespaces : id);
  }

  /** NO_SUCH_NAMESPACE for a storage key of one that was dropped. */
  refuseDropped(key: Uint8Array): void {
    if (this.document.nextId > 1 && this.isDroppedKey(key)) throw noSuchNamespace(namespaceOf(key));
  }
}

export const firstNamespaces = new Namespaces(firstDocument);

export const noSuchNamespace = (namespace: string | number): KvError =>
  new KvError('NO_SUCH_NAMESPACE', { namespace, detail: `no such namespace: ${namespace}` });

/**
 * Neighbours by id whose tables are kept alike, and not as the node keeps those of all others: as
 * many sets of tables does a shard keep apart at most, beside what lies between them.
 */
export const tableGroupsMax = 64;

export const tableGroups = (namespaces: readonly Namespace[]): number =>
  namespaces.filter((each, i) => {
    const { compaction, compression } = each;
    const before = namespaces[i - 1] ?? plainSettings;
    const isAsBefore = before.compaction === compaction && before.compression === compression;
    return !isAsBefore && (compaction !== '' || compression !== '');
  }).length;

export const hasSizeQuota = ({ bytesMax, keysMax }: NamespaceSettings): boolean =>
  bytesMax > 0 || keysMax > 0;

/** Milliseconds that a value lives which was written without a lifetime; 0: for ever. */
export const usualTtlMs = ({ ttlSeconds, ttlSecondsMax }: NamespaceSettings): number =>
  (ttlSeconds === 0 ? ttlSecondsMax : ttlSeconds) * 1000;

/** BAD_REQUEST for a lifetime, in milliseconds, that is longer than the namespace allows. */
export function checkTtl({ ttlSecondsMax, name }: Namespace, ttlMs: number): void {
  if (ttlSecondsMax === 0 || (ttlMs > 0 && ttlMs <= ttlSecondsMax * 1000)) return;
  const detail = `ttl: namespace ${name} keeps nothing longer than ${ttlSecondsMax} seconds`;
  throw new KvError('BAD_REQUEST', { field: 'ttl', max: ttlSecondsMax, detail });
}
