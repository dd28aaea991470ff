// `kvd certs`: a private authority in a directory, and what it issues. Files are never overwritten:
// a lost CA key cannot be made again. Keys are readable by their owner only (rule SE-22).

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { KvError } from '../../runtime/errors.ts';
import { openToOthersAndGroup, readNamedFile } from '../node/named-file.ts';
import type { Issued, Subject } from './authority.ts';

const authorityDays = '3650';
const certificateDays = '397';

interface InitOptions {
  readonly clusterName: string;
  readonly dir: string;
  readonly days: string;
}

interface IssueOptions {
  readonly nodeId?: string;
  readonly client?: string;
  readonly host?: string;
  readonly dir: string;
  readonly days: string;
}

export function certsCommand(): Command {
  const init = new Command('init')
    .description('Make a certificate authority for one cluster: ca.crt and ca.key')
    .exitOverride()
    .option('--cluster-name <name>', 'the cluster it is for', 'kvd')
    .option('--dir <dir>', 'where its files are', './kvd-certs')
    .option('--days <days>', 'how long it is valid', authorityDays)
    .action(async (options: InitOptions) => {
      const { createAuthority } = await import('./authority.ts');
      const issued = await createAuthority(options.clusterName, Number(options.days));
      say(save(options.dir, 'ca', issued));
    });
  const issue = new Command('issue')
    .description('Make a certificate for a node or for a client: NAME.crt and NAME.key')
    .exitOverride()
    .option('--node-id <id>', 'for this node')
    .option('--host <list>', 'names and addresses of the node: a.example,10.0.0.1')
    .option('--client <name>', 'for a client; it cannot be a node')
    .option('--dir <dir>', 'where the authority is and the files go', './kvd-certs')
    .option('--days <days>', 'how long it is valid', certificateDays)
    .action(async (options: IssueOptions) => {
      const { issueCertificate } = await import('./authority.ts');
      const { subject, file } = subjectOf(options);
      const authority = load(options.dir, 'ca');
      const issued = await issueCertificate(authority, subject, Number(options.days));
      say(save(options.dir, file, issued));
    });
  return new Command('certs')
    .description('Certificates of a private authority')
    .exitOverride()
    .addCommand(init)
    .addCommand(issue);
}

function subjectOf({ nodeId, client, host }: IssueOptions): { subject: Subject; file: string } {
  if ((nodeId === undefined) === (client === undefined))
    throw invalid('node-id', 'expected one of --node-id and --client');
  if (client !== undefined) return { subject: { client }, file: `client-${client}` };
  const hosts = (host ?? '').split(',').map((text) => text.trim());
  const subject = { node: nodeId ?? '', hosts: hosts.filter((text) => text !== '') };
  return { subject, file: subject.node };
}

function load(dir: string, name: string): Issued {
  const unread = (why: string): KvError =>
    invalid('dir', `${why}: make the authority first with kvd certs init`);
  const cert = readNamedFile(join(dir, `${name}.crt`), unread);
  const exposed = (why: string): KvError => invalid('dir', why);
  return { cert, key: readNamedFile(join(dir, `${name}.key`), exposed, openToOthersAndGroup) };
}

/** Writes both files, the key first; the names of what was written. */
function save(dir: string, name: string, { cert, key }: Issued): readonly string[] {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const files = [
    { path: join(dir, `${name}.key`), text: key, mode: 0o600 },
    { path: join(dir, `${name}.crt`), text: cert, mode: 0o644 },
  ];
  for (const { path, text, mode } of files) {
    try {
      writeFileSync(path, text.endsWith('\n') ? text : `${text}\n`, { flag: 'wx', mode });
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      throw invalid('dir', code === 'EEXIST' ? `${path} is there already` : message);
    }
  }
  return files.map(({ path }) => path);
}

function say(paths: readonly string[]): void {
  process.stdout.write(`${paths.map((path) => `wrote ${path}`).join('\n')}\n`);
}

const invalid = (field: string, detail: string): KvError =>
  new KvError('BAD_REQUEST', { field, detail });
