// kvctl's prompt and completion scripts.

import { execFileSync } from 'node:child_process';
import { expect } from 'chai';
import fc from 'fast-check';
import { splitWords } from '../../cli/commands/repl.ts';
import { type FakeServer, kvctl, ok, startFake } from '../kit-kvctl.ts';

describe('kvctl: prompt', () => {
  let server: FakeServer;
  beforeEach(async () => {
    server = await startFake(({ method }) =>
      method === 'GET'
        ? ok({ key: 'a', value: 7, version: 1, timestamp: 1 })
        : ok({ key: 'a', version: 1, timestamp: 1, status: 'success' }),
    );
  });
  afterEach(() => server.close());

  it('prompt: lines are commands, one after the other, with quotes and comments', async () => {
    const lines = `put 'a b' "x \\"y\\""\n# nothing\n\nget a\n`;
    const run = await kvctl(['--endpoint', server.url], lines);
    expect([run.code, run.stderr]).to.deep.equal([0, '']);
    expect(server.seen.map(({ method, url, body }) => [method, url, body])).to.deep.equal([
      ['PUT', '/api/v1/keys/a%20b', '{"value":"x \\"y\\""}'],
      ['GET', '/api/v1/keys/a', ''],
    ]);
    expect(run.text).to.contain('7');
  });

  it('prompt: settings hold for the commands that follow, until they are taken back', async () => {
    const lines = 'consistency ONE\nget a\nconsistency\nget a\nsettings\n';
    const run = await kvctl(['--endpoint', server.url], lines);
    const levels = server.seen.map(({ headers }) => headers['consistency-level']);
    expect(levels).to.deep.equal(['ONE', undefined]);
    expect(run.text).to.contain('consistency ONE').and.to.contain('consistency (default)');
  });

  it('prompt: a setting that no command would take is refused when it is made, and changes nothing', async () => {
    for (const [line, expected] of [
      ['consistency loud', 'consistency: expected one of ANY, ONE'],
      ['output xml', 'output: expected one of table, json, jsonl, raw'],
      ['timeout soon', 'timeout: expected a whole number'],
      ['timeout 3600001', 'from 1 to 3600000, found 3600001'],
    ] as const) {
      const run = await kvctl(['--endpoint', server.url], `consistency ONE\n${line}\nsettings\n`);
      expect(run.stderr, line).to.contain(expected);
      expect(run.text, line).to.contain('consistency ONE\noutput (default)\n');
      expect((await kvctl([], line)).code, line).to.equal(2);
    }
    const fits = 'timeout 3600000\noutput raw\nconsistency strong\n';
    expect(await kvctl([], fits)).to.include({ code: 0, stderr: '' });
  });

  it('prompt: ns with a name is a setting, ns list is the command', async () => {
    const run = await kvctl(['--endpoint', server.url], 'ns a\nget k\nns list\nns\nget k\n');
    const seen = server.seen.map(({ url, headers }) => [url, headers['x-namespace']]);
    expect(seen).to.deep.equal([
      ['/api/v1/keys/k', 'a'],
      ['/api/v1/admin/namespaces', 'a'],
      ['/api/v1/keys/k', undefined],
    ]);
    expect(run.text).to.contain('ns a').and.to.contain('ns (default)');
  });

  it('prompt: a command that fails is said, and the next one runs; the last code counts', async () => {
    const run = await kvctl(['--endpoint', server.url], 'nonsense\nput "open\nget a\n');
    expect(run.stderr).to.contain("unknown command 'nonsense'").and.to.contain('not closed');
    expect([run.code, server.seen.length]).to.deep.equal([0, 1]);
    expect((await kvctl([], 'get a\nnonsense\nquit\nget a\n')).code).to.equal(2);
  });

  it('prompt: any words come back from a line that quotes them', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'grapheme' })), (words) => {
        const line = words.map((word) => `"${word.replaceAll(/["\\]/g, '\\$&')}"`).join('  ');
        expect(splitWords(line)).to.deep.equal(words);
      }),
    );
    expect(splitWords("a\\ b 'c\\d'e")).to.deep.equal(['a b', 'c\\de']);
    expect(splitWords("'")).to.equal(undefined);
  });
});

describe('kvctl: completion', () => {
  const completed = async (...words: string[]): Promise<string[]> => {
    const { text } = await kvctl(['completion', 'bash']);
    const line = ['kvctl', ...words].map((word) => `'${word}'`).join(' ');
    const script = `${text}\nCOMP_WORDS=(${line}); COMP_CWORD=${words.length}; _kvctl; printf '%s\\n' "\${COMPREPLY[@]}"`;
    return execFileSync('bash', ['-c', script]).toString().trim().split('\n');
  };

  it('completion: bash completes commands, their options and the commands below them', async () => {
    expect(await completed('imp')).to.deep.equal(['import']);
    expect(await completed('import', '--key')).to.deep.equal(['--key-field']);
    expect(await completed('import', '--end')).to.deep.equal(['--endpoint']);
    expect((await completed('sst', '')).slice(0, 2)).to.deep.equal(['dump', 'verify']);
    expect(await completed('get', '--key')).to.deep.equal(['']);
  });

  it('completion: scripts for zsh and fish name the same commands; other shells are refused', async () => {
    expect((await kvctl(['completion', 'zsh'])).text).to.contain('bashcompinit');
    const { text } = await kvctl(['completion', 'fish']);
    expect(text).to.contain("-n '__fish_use_subcommand' -f -a import\n");
    expect(text).to.contain("-n '__fish_seen_subcommand_from import' -l key-field\n");
    expect((await kvctl(['completion', 'tcsh'])).code).to.equal(2);
  });
});
