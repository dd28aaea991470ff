// The archive of closed log segments, outside of the data directory:
//
//   CLUSTER/NODE/shard-N/archive.json     which data directory's log this is
//                        0000000001.wal   a segment, as it was, without the zeros at its end
//                        covered.json     up to where and when nothing is missing
//
// `covered`: every record that the shard had logged by `atMicros` has an LSN up to `throughLsn` and
// is in a segment of the archive, unless it was before the first one. A restore to a later time is
// refused: nobody could say what is missing.

import type { Disk } from '../../runtime/environment.ts';
import { openDocument, sealDocument } from './snapshot-format.ts';

export interface Covered {
  readonly throughLsn: number;
  /** Of the node's wall clock, microseconds since 1970. */
  readonly atMicros: number;
}

export const archiveDirectory = (clusterName: string, node: string, shard: number): string =>
  `${clusterName}/${node}/shard-${shard}`;

const coveredPath = (directory: string): string => `${directory}/covered.json`;
export const lineagePath = (directory: string): string => `${directory}/archive.json`;

/** CorruptionError where it is damaged; undefined where nothing was archived yet. */
export function readCovered(archive: Disk, directory: string): Covered | undefined {
  const path = coveredPath(directory);
  const bytes = archive.read(path);
  return bytes === undefined ? undefined : (openDocument(path, bytes) as Covered);
}

export const writeCovered = (archive: Disk, directory: string, covered: Covered): Promise<void> =>
  archive.replace(coveredPath(directory), sealDocument(covered));
