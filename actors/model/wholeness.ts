// Whether a data directory holds all that its node has ever acknowledged (CO-4). A new directory
// may be that of a new node, or of one that has lost its disk or came back from a backup; only the
// other members can tell. Its birth is the incarnation of its first start, and names it.

import { openText, sealText } from './sealed-text.ts';

/** Below a node's data directory: there where the directory is whole. */
export const wholeFile = 'whole';

export const encodeWhole = (birth: number): Uint8Array => sealText(String(birth));

/** The birth of the directory that it was written for; undefined where it is damaged. */
export function decodeWhole(bytes: Uint8Array): number | undefined {
  const text = openText(bytes);
  const birth = text === undefined ? NaN : Number(text);
  return Number.isSafeInteger(birth) ? birth : undefined;
}
