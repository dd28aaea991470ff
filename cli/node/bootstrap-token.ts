// The token that begins a cluster whose clients have to say who they are: a file that `kvd token` makes
// and `--auth-bootstrap-token-file` names. A node keeps its hash only. Whoever shows it may do one
// thing, make an administrator, and only while there is none who can show a token of his own.

import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { Command } from 'commander';
import { mintToken, tokenBytes, tokenHash, tokenId } from '../../runtime/access-token.ts';
import { KvError } from '../../runtime/errors.ts';
import { openToOthersAndGroup, readNamedFile } from './named-file.ts';

const option = 'authBootstrapTokenFile';

/** The hash of the token in a file. BAD_REQUEST where there is none, or where others may read it. */
export function readBootstrapToken(path: string): string {
  const text = readNamedFile(path, refusal, openToOthersAndGroup).trim();
  if (tokenId(text) === undefined)
    throw refusal(`${path} holds no token: make one with kvd token --out ${path}`);
  return tokenHash(text);
}

const refusal = (detail: string): KvError =>
  new KvError('BAD_REQUEST', { field: option, detail: `${option}: ${detail}` });

export function tokenCommand(): Command {
  return new Command('token')
    .description('Make a token in a new file, for --auth-bootstrap-token-file')
    .exitOverride()
    .requiredOption('--out <file>', 'the file; one that is there is left alone')
    .action(({ out }: { readonly out: string }) => {
      const { text } = mintToken(new Uint8Array(randomBytes(tokenBytes)));
      try {
        writeFileSync(out, `${text}\n`, { mode: 0o600, flag: 'wx' });
      } catch (error) {
        throw refusal(`cannot make ${out}: ${(error as Error).message}`);
      }
      process.stdout.write(
        `a token is in ${out}; the first kvctl --token-file ${out} user create NAME --admin makes the administrator\n`,
      );
    });
}
