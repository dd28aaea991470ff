// The generation of a node that others know and its own data directory does not: after the
// directory was emptied, or the clock was ahead when it started before. The process that hears of
// it ends (GO-3) and leaves the number behind, so that its next start is above it.

import { openText, sealText } from './sealed-text.ts';

/** Below a node's data directory; the next start removes it. */
export const heardGenerationFile = 'generation-heard';

export const encodeHeardGeneration = (generation: number): Uint8Array =>
  sealText(String(generation));

/** 0 where it is damaged: without it the node starts, hears of the generation and ends again. */
export function decodeHeardGeneration(bytes: Uint8Array): number {
  const generation = Number(openText(bytes));
  return Number.isSafeInteger(generation) ? generation : 0;
}
