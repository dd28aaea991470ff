// Whether a data directory holds all that its node has ever acknowledged (CO-4). A new directory
// may be that of a new node, or of one that has lost its disk or came back from a backup; only the
// other members can tell. Its birth is the incarnation of its first start, and names it.

import type { Disk } from '../../runtime/environment.ts';
import { KvError } from '../../runtime/errors.ts';
import { openText, sealText } from './sealed-text.ts';

/** Below a node's data directory: there where the directory is whole. */
export const wholeFile = 'whole';

export const encodeWhole = (birth: number): Uint8Array => sealText(String(birth));

/** A mark that is damaged, or of another directory, is none. */
export function isMarkedWhole(disk: Disk, birth: number): boolean {
  const bytes = disk.read(wholeFile);
  return bytes !== undefined && openText(bytes) === String(birth);
}

/** What a replica or acceptor says until its node is whole: others do better, nothing was done. */
export const notWhole = (node: string): KvError =>
  new KvError('DRAINING', { node, detail: `node ${node} is filled with what it has lost` });

/** Durable when it resolves. */
export const markWhole = (disk: Disk, birth: number): Promise<void> =>
  disk.replace(wholeFile, encodeWhole(birth));
