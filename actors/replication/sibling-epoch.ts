// From where on a replica trusts what it has counted in sibling sets (DV-3). It counts the writes of
// each key as an actor whose name has an epoch. Who continues counting under an old name after a loss
// of state claims to know writes that it has forgotten, and others would drop them. So older names
// are given up with the state: in a new directory, after a start that accepted a loss, where
// acknowledged writes need not be durable, and when another replica knows more of them than we do.

import { ByteReader, ByteWriter, noBytes } from '../../runtime/bytes.ts';
import type { Disk } from '../../runtime/environment.ts';
import { openBytes, sealBytes } from '../model/sealed-bytes.ts';

/** In the directory of a shard. */
export const siblingEpochFile = 'sibling-epoch';

export interface SiblingEpoch {
  readonly epoch: number;
  /** The state of the run that stored it outlives every crash: the next run may go on with it. */
  readonly isKept: boolean;
}

/** Undefined where there is none, or it is damaged: then a new one is needed. */
export function storedEpoch(disk: Disk, path: string): SiblingEpoch | undefined {
  const content = openBytes(disk.read(path) ?? noBytes);
  if (content?.length !== 9) return undefined;
  const reader = new ByteReader(content);
  return { epoch: reader.u53(), isKept: reader.u8() === 1 };
}

/** Durable when it resolves. */
export function storeEpoch(
  disk: Disk,
  path: string,
  { epoch, isKept }: SiblingEpoch,
): Promise<void> {
  const writer = new ByteWriter(13);
  writer.u53(epoch);
  writer.u8(isKept ? 1 : 0);
  return disk.replace(path, sealBytes(writer));
}
