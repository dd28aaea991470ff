// Text files that options name. Whoever can read the key of a node or the token that begins a cluster
// can be that node, or its first administrator: one that too many may read is refused (rule SE-22).

import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import type { KvError } from '../../runtime/errors.ts';

/** Modes that a file may not have. */
export const openToOthers = 0o007;
export const openToOthersAndGroup = 0o077;

/** Throws `refusal` of what is wrong where it cannot be read, or has one of the modes `excluded`. */
export function readNamedFile(
  path: string,
  refusal: (detail: string) => KvError,
  excluded = 0,
): string {
  let text: string;
  let mode: number;
  try {
    const fd = openSync(path, 'r');
    try {
      ({ mode } = fstatSync(fd));
      text = readFileSync(fd, 'utf8');
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    throw refusal(`cannot read ${path}: ${(error as Error).message}`);
  }
  if ((mode & excluded) !== 0)
    throw refusal(`${path} may be read or written by others: chmod 600 ${path}`);
  return text;
}
