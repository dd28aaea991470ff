// Files that hold a secret, the key of a node or the token that begins a cluster: whoever can read one
// can be that node, or its first administrator, so one that everybody can read is refused (rule SE-22).

import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { KvError } from '../../runtime/errors.ts';

/** Who may not have any right to the file: everybody but its owner and group, or all but its owner. */
const excluded = { others: 0o007, 'others and group': 0o077 } as const;

/** Its text. BAD_REQUEST about `field` where it cannot be read, or where too many may read it. */
export function readSecretFile(
  path: string,
  field: string,
  from: keyof typeof excluded = 'others',
): string {
  const refusal = (detail: string): KvError =>
    new KvError('BAD_REQUEST', { field, detail: `${field}: ${detail}` });
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
  if ((mode & excluded[from]) !== 0)
    throw refusal(`${path} may be read or written by others: chmod 600 ${path}`);
  return text;
}
