// Documents that repeat what the code says are compared with the code: the tables of errors and
// settings. KVD_GOLDEN=write writes them anew.

import { readFileSync, writeFileSync } from 'node:fs';
import { expect } from 'chai';
import { type CommandSpec, respCommands } from '../../actors/gateway/resp-commands.ts';
import { settingNames, settingRows } from '../../actors/node/settings.ts';
import { errorTable } from '../../runtime/errors.ts';

function errorsDocument(): string {
  const rows = Object.entries(errorTable).map(
    ([code, { status, effect, retry, title }]) =>
      `| \`${code}\` | ${status} | ${effect} | ${retry} | ${title} |`,
  );
  return [
    '# Errors',
    '',
    'Every error has a code of this table. REST answers with a problem document (RFC 9457) that',
    'carries it in `code`, with figures beside it. `effect` says whether the operation may have',
    'happened: `none` is a promise that it did not and never will; `unknown` means that nobody can',
    'tell, so read before you repeat something that must not happen twice. `retry` says when trying',
    'again makes sense.',
    '',
    '| code | HTTP status | effect | retry | meaning |',
    '| --- | --- | --- | --- | --- |',
    ...rows,
    '',
  ].join('\n');
}

function configurationDocument(): string {
  const rows = settingNames.map((name) => {
    const { default: value, min, max, what } = settingRows[name];
    return `| \`${name}\` | ${value} | ${min} to ${max} | ${what} |`;
  });
  return [
    '# Configuration',
    '',
    'Defaults, then the file of `--config`, then `KVD_*` variables, then flags: later ones win. The',
    'file is YAML with the options of `kvd --help` in camelCase and a mapping `settings` with the',
    'names below; variables are `KVD_` and the option in upper case with underscores',
    '(`KVD_HTTP_PORT`); a single setting is `--set name=value`. `kvd config check` says whether a',
    'configuration is valid, `kvd config print` shows it with every default. Unknown names in',
    'the file, in flags and in `KVD_*` variables are refused (those that Kubernetes sets for a',
    'service `kvd` are not), and so are sizes that make no sense together.',
    '',
    '```yaml',
    'nodeId: n1',
    'httpPort: 7000',
    'seeds: [n1@127.0.0.1:7002, n2@127.0.0.1:7012, n3@127.0.0.1:7022]',
    'durability: group',
    'settings:',
    '  readTimeoutMs: 2000',
    '```',
    '',
    '## Durability',
    '',
    '`group` (default): a write is acknowledged after an fdatasync that covers it; writes that wait',
    'share one. `periodic`: acknowledged when written to the page cache, synced every',
    '`walSyncIntervalMs`, and sooner where 4 MiB wait or a quarter of a log file; a loss of power takes',
    'what came after the last sync. `none`: a write waits',
    'for no sync, and the log is synced only where a file of it is full: the next one says where it ends.',
    'All three survive `kill -9`.',
    '',
    '## Compaction',
    '',
    '`compaction: leveled` (default): few tables to look into for a read, the most bytes written.',
    '`size-tiered`: tables of similar size are merged; fewer bytes written, more space and slower',
    'reads. `time-window`: the same within the current window of `timeWindowMs`, and one table for',
    'each window that is over, for records that are written once and expire. It may be changed at',
    'any start.',
    '',
    'With any of them a table all of whose records have expired is removed once nothing older can',
    'arrive any more: an hour after the last of them has expired and not before `tombstoneGraceMs`,',
    'with several copies after the next repair of all of them. Tables are looked through for it every',
    'minute.',
    '',
    '## Compression',
    '',
    '`compression: auto` (default): tables are packed with LZ4, and with Zstd where nothing lies below',
    'them, since those are rarely written again. `lz4`, `zstd`, `none`: all of them so. It may be',
    'changed at any start and counts for tables that are written from then on. Figures:',
    '[decision 14](decisions/0014-tables-of-version-2.md).',
    '',
    '## Archive of the log',
    '',
    '`--wal-archive DIR`: closed log files are copied there before they are removed, so that a',
    'backup can be restored to a point in time ([operations](operations.md#point-in-time)).',
    '',
    '## Settings',
    '',
    '| name | default | range | what |',
    '| --- | --- | --- | --- |',
    ...rows,
    '',
  ].join('\n');
}

const tableStart = '<!-- commands: made from the code -->';
const tableEnd = '<!-- end of commands -->';

function servedAs({ missing }: CommandSpec): string {
  return missing === undefined ? 'yes' : `not yet: ${missing}`;
}

/** docs/redis.md with its table anew; all else in it is written by hand. */
function redisDocument(): string {
  const text = readFileSync('docs/redis.md', 'utf8');
  const [before = '', rest = ''] = text.split(tableStart);
  const [, after = ''] = rest.split(tableEnd);
  const rows = respCommands.map(
    (spec) =>
      `| \`${spec.name.toUpperCase()}\` | ${spec.group} | ${servedAs(spec)} | ${spec.summary} |`,
  );
  const head = ['| command | group | served | what |', '| --- | --- | --- | --- |'];
  const table = [tableStart, '', ...head, ...rows, '', tableEnd].join('\n');
  return `${before}${table}${after}`;
}

const documents = [
  { path: 'docs/errors.md', render: errorsDocument },
  { path: 'docs/configuration.md', render: configurationDocument },
  { path: 'docs/redis.md', render: redisDocument },
];

describe('docs: tables equal the code', () => {
  for (const { path, render } of documents)
    it(`docs: ${path} says what the code says`, () => {
      if (process.env['KVD_GOLDEN'] === 'write') writeFileSync(path, render());
      expect(readFileSync(path, 'utf8')).to.equal(render());
    });
});
