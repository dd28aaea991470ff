// The generation of a node that others know and its own data directory does not: after the
// directory was emptied, or the clock was ahead when it started before. The process that hears of
// it ends (GO-3) and leaves the number behind, so that its next start is above it.

import { crc32, utf8 } from '../../runtime/bytes.ts';

/** Below a node's data directory; the next start removes it. */
export const heardGenerationFile = 'generation-heard';

export function encodeHeardGeneration(generation: number): Uint8Array {
  const text = String(generation);
  return utf8.encode(`${text}\n${String(crc32(utf8.encode(text)))}\n`);
}

/** 0 where it is damaged: without it the node starts, hears of the generation and ends again. */
export function decodeHeardGeneration(bytes: Uint8Array): number {
  const [text = '', checksum = ''] = utf8.decode(bytes).split('\n');
  const generation = Number(text);
  const isWhole = String(crc32(utf8.encode(text))) === checksum;
  return isWhole && Number.isSafeInteger(generation) ? generation : 0;
}
