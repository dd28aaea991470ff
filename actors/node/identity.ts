// Whose data directory this is (FS-11), and how often it was started. The incarnation grows with
// every start and is durable before the first message or stamp of that start: it tells writes and
// heartbeats of one life from those of the next (GO-1).
//
// What decides where data lies (members, ring, shards) is written down too: a start with other
// values would look for keys in the wrong place, so it is refused.

import type { Disk } from '../../runtime/environment.ts';
import { CorruptionError, KvError } from '../../runtime/errors.ts';
import { decodeHeardGeneration, heardGenerationFile } from '../model/heard-generation.ts';
import { openText, sealText } from '../model/sealed-text.ts';
import { isMarkedWhole, markWhole } from '../model/wholeness.ts';

/** Below a node's data directory. */
export const identityFile = 'identity.json';
/** Says that a restore of this directory was begun; it goes when its identity is written. */
export const restoreMarker = 'restore-in-progress';
const formatVersion = 1;

export interface Identity {
  readonly clusterName: string;
  readonly node: string;
  /** Sorted node ids. */
  readonly members: readonly string[];
  readonly replicationFactor: number;
  readonly virtualNodes: number;
  readonly shards: number;
}

interface Stored extends Identity {
  readonly formatVersion: number;
  readonly incarnation: number;
  /** Incarnation of the first start; absent in directories of before, which are whole. */
  readonly birth?: number;
}

export interface Opened {
  readonly incarnation: number;
  readonly birth: number;
  /** False: it may lack what its node has acknowledged in an earlier directory (CO-4). */
  readonly isWhole: boolean;
}

/**
 * Checks the directory against `identity`, or marks a new one, and raises the incarnation:
 * at least `unixSeconds`, and above what others were heard to know. DATA_REFUSED says what differs.
 */
export async function openIdentity(
  disk: Disk,
  identity: Identity,
  unixSeconds: number,
): Promise<Opened> {
  const bytes = disk.read(identityFile);
  const heard = disk.read(heardGenerationFile);
  const above = heard === undefined ? 0 : decodeHeardGeneration(heard) + 1;
  let incarnation = Math.max(Math.floor(unixSeconds), above);
  const stored = bytes === undefined ? undefined : decode(bytes);
  if (stored === undefined) refuseUnmarked(disk);
  else {
    refuseOther(stored, identity);
    incarnation = Math.max(incarnation, stored.incarnation + 1);
  }
  const birth = stored?.birth ?? incarnation;
  const isAlone = identity.members.length === 1;
  const isOfBefore = stored !== undefined && stored.birth === undefined;
  // Without a mark: nobody else could tell, or nobody was told yet.
  const isMarked = isMarkedWhole(disk, birth);
  const isWhole = isMarked || isAlone || isOfBefore;
  if (isWhole && !isMarked) await markWhole(disk, birth);
  await disk.replace(identityFile, encode({ ...identity, formatVersion, incarnation, birth }));
  disk.remove(restoreMarker);
  if (heard !== undefined) disk.remove(heardGenerationFile);
  return { incarnation, birth, isWhole };
}

/**
 * The last step of a restore: from here on the directory is that node's. It is born anew: where the
 * others have gone on without it, it has to be filled before it counts.
 */
export async function restoreIdentity(
  disk: Disk,
  identity: Identity,
  incarnation: number,
): Promise<void> {
  const birth = incarnation;
  await disk.replace(identityFile, encode({ ...identity, formatVersion, incarnation, birth }));
}

/** Data without its identity may be anybody's, and its last incarnation is unknown. */
function refuseUnmarked(disk: Disk): void {
  const found = disk.list('').find((name) => name.startsWith('shard-'));
  if (found !== undefined)
    throw new KvError('DATA_REFUSED', {
      field: 'identity',
      detail: `the data directory holds ${found} but no ${identityFile}: it was lost or the directory is not kvd's`,
    });
}

function refuseOther(stored: Stored, identity: Identity): void {
  const compared: readonly (keyof Identity)[] = [
    'clusterName',
    'node',
    'members',
    'replicationFactor',
    'virtualNodes',
    'shards',
  ];
  for (const field of compared) {
    const before = JSON.stringify(stored[field]);
    const now = JSON.stringify(identity[field]);
    if (before !== now)
      throw new KvError('DATA_REFUSED', {
        field,
        detail: `the data directory has ${field} ${before}, this node was started with ${now}`,
      });
  }
}

const encode = (stored: Stored): Uint8Array => sealText(JSON.stringify(stored));

function decode(bytes: Uint8Array): Stored {
  const text = openText(bytes);
  if (text === undefined) throw new CorruptionError(identityFile, 0, 'identity fails its checksum');
  const stored = JSON.parse(text) as Stored;
  if (stored.formatVersion !== formatVersion)
    throw new KvError('DATA_REFUSED', {
      field: 'formatVersion',
      detail: `the data directory has format ${stored.formatVersion}, this program writes ${formatVersion}`,
    });
  return stored;
}
