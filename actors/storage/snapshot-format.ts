// The manifest of a snapshot: whose it is, when it was taken and which tables it holds, as one line
// of JSON and its CRC-32 on a second one (docs/storage-format.md). A snapshot is there when its
// manifest is: that is written last, and removed first. A backup keeps the same documents.
//
// Keys of tables are in hexadecimal digits, since a key may be any bytes.

import { crc32, utf8 } from '../../runtime/bytes.ts';
import { CorruptionError, KvError } from '../../runtime/errors.ts';
import type { SnapshotSummary, TableMeta } from './protocol.ts';
import { tableName } from './table-files.ts';

const formatVersion = 1;

/** What decides where data lies: a restore keeps it. */
export interface ClusterShape {
  /** Sorted node ids. */
  readonly members: readonly string[];
  readonly replicationFactor: number;
  readonly virtualNodes: number;
  readonly shards: number;
}

export interface SnapshotShard {
  readonly shard: number;
  /** Every record up to this LSN of the shard's log is in its tables. */
  readonly flushedThrough: number;
  readonly tables: readonly TableMeta[];
}

export interface SnapshotManifest {
  readonly name: string;
  /** Milliseconds since 1970. */
  readonly createdMs: number;
  readonly clusterName: string;
  readonly node: string;
  readonly incarnation: number;
  readonly shape: ClusterShape;
  readonly shards: readonly SnapshotShard[];
}

export const snapshotDirectory = 'snapshots';

export const snapshotPath = (name: string): string => `${snapshotDirectory}/${name}.json`;

/** In front of the name of each table of one shard. */
export const snapshotPrefix = (name: string, shard: number): string =>
  `${snapshotDirectory}/${name}.${shard}.`;

export const snapshotTablePath = (name: string, shard: number, fileNumber: number): string =>
  `${snapshotPrefix(name, shard)}${tableName(fileNumber)}`;

/** The snapshot that a file of the directory belongs to, and whether it is its manifest. */
export function snapshotFile(
  file: string,
): { readonly name: string; readonly isManifest: boolean } | undefined {
  const match = /^([A-Za-z0-9_-]{1,64})[.](json|\d+[.]\d{10}[.]sst)$/.exec(file);
  if (match?.[1] === undefined) return undefined;
  return { name: match[1], isManifest: match[2] === 'json' };
}

/** BAD_REQUEST for anything that could be more than a file's name (SE-26). */
export function checkSnapshotName(name: string): void {
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(name))
    throw new KvError('BAD_REQUEST', {
      field: 'name',
      detail: 'name: expected 1 to 64 letters, digits, hyphens or underscores',
    });
}

export function summaryOf({ name, createdMs, shards }: SnapshotManifest): SnapshotSummary {
  let [tables, records, bytes, maxHlc] = [0, 0, 0, 0];
  for (const table of shards.flatMap((shard) => shard.tables)) {
    tables += 1;
    records += table.records;
    bytes += table.bytes;
    maxHlc = Math.max(maxHlc, table.maxHlc);
  }
  return { name, createdMs, tables, records, bytes, maxHlc };
}

/** One line of JSON, its CRC-32 as a second one: a part of it is no document. */
export function sealDocument(document: unknown): Uint8Array {
  const text = JSON.stringify(document);
  return utf8.encode(`${text}\n${hex32(crc32(utf8.encode(text)))}\n`);
}

/** The document; CorruptionError where a byte of it is damaged or missing. */
export function openDocument(path: string, bytes: Uint8Array): unknown {
  const [text = '', crc, rest] = utf8.decode(bytes).split('\n');
  if (crc !== hex32(crc32(utf8.encode(text))) || rest !== '')
    throw new CorruptionError(path, 0, 'it fails its checksum');
  return JSON.parse(text);
}

const hex32 = (value: number): string => value.toString(16).padStart(8, '0');

export const encodeSnapshot = (manifest: SnapshotManifest): Uint8Array =>
  sealDocument(snapshotDocument(manifest));

/** CorruptionError where it is damaged, DATA_REFUSED for another format. */
export function decodeSnapshot(path: string, bytes: Uint8Array): SnapshotManifest {
  return snapshotOf(path, openDocument(path, bytes));
}

/** The same of a document that was opened already. */
export function snapshotOf(path: string, document: unknown): SnapshotManifest {
  const { kind, formatVersion: version, ...manifest } = document as StoredManifest;
  if (kind !== 'kvd-snapshot' || version !== formatVersion)
    throw new KvError('DATA_REFUSED', {
      file: path,
      detail: `${path}: snapshot format ${version}; this program reads ${formatVersion}`,
    });
  const shards = manifest.shards.map((shard) => ({ ...shard, tables: shard.tables.map(loaded) }));
  const checked = { ...manifest, shards };
  if (!isPlausible(checked)) throw new CorruptionError(path, 0, 'it names what cannot be');
  return checked;
}

/** Names and numbers that become names of files, whoever wrote the document (SE-26). */
function isPlausible({ name, node, clusterName, shape, shards }: SnapshotManifest): boolean {
  const isName = (text: string): boolean => /^[A-Za-z0-9_-]{1,64}$/.test(text);
  return (
    [name, node, clusterName].every(isName) &&
    shards.length === shape.shards &&
    shards.every(({ shard, tables }, i) => shard === i && tables.every(isTable))
  );
}

const isTable = ({ fileNumber, bytes, checksum }: TableMeta): boolean =>
  [fileNumber, bytes, checksum].every((figure) => Number.isSafeInteger(figure) && figure >= 0);

/** The document of a snapshot as plain data, for one that holds several. */
export function snapshotDocument(manifest: SnapshotManifest): object {
  const shards = manifest.shards.map((shard) => ({ ...shard, tables: shard.tables.map(stored) }));
  return { kind: 'kvd-snapshot', formatVersion, ...manifest, shards };
}

type StoredTable = Omit<TableMeta, 'firstKey' | 'lastKey'> & {
  readonly firstKey: string;
  readonly lastKey: string;
};
type StoredManifest = Omit<SnapshotManifest, 'shards'> & {
  readonly kind: string;
  readonly formatVersion: number;
  readonly shards: readonly (Omit<SnapshotShard, 'tables'> & {
    readonly tables: readonly StoredTable[];
  })[];
};

const stored = (table: TableMeta): StoredTable => ({
  ...table,
  firstKey: toHex(table.firstKey),
  lastKey: toHex(table.lastKey),
});
const loaded = (table: StoredTable): TableMeta => ({
  ...table,
  firstKey: fromHex(table.firstKey),
  lastKey: fromHex(table.lastKey),
});

function toHex(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += byte.toString(16).padStart(2, '0');
  return text;
}

function fromHex(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length / 2);
  for (let i = 0; i < bytes.length; i += 1)
    bytes[i] = Number.parseInt(text.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}
