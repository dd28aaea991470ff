// What README and the guides tell people to type, typed: their blocks run in a shell, in a directory
// of their own, against the cluster that the first block starts. Ports are moved to free ones, and
// `npm` stands for the scripts of package.json without installing and building again.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { freeBasePort } from './dev-cluster.ts';

const root = fileURLToPath(new URL('../../../', import.meta.url));

/** The blocks of a language in a document, as they stand there. */
function blocksOf(file: string, language: string): string[] {
  const text = readFileSync(join(root, file), 'utf8');
  const blocks = [...text.matchAll(new RegExp(`^\`\`\`${language}\\n([^]*?)^\`\`\`$`, 'gm'))];
  return blocks.map(([, block = '']) => block);
}

interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A redis-cli of one command, for machines without the real one. */
const redisCli = `#!/usr/bin/env node
const { connect } = require('node:net');
const [flag, port, ...words] = process.argv.slice(2);
if (flag !== '-p') throw new Error('expected -p');
const socket = connect(Number(port), '127.0.0.1');
socket.write('*' + words.length + '\\r\\n' + words.map((w) => '$' + Buffer.byteLength(w) + '\\r\\n' + w + '\\r\\n').join(''));
let text = '';
socket.on('data', (chunk) => {
  text += chunk;
  const found = /^\\$(\\d+)\\r\\n/.exec(text);
  if (found === null || text.length < found[0].length + Number(found[1]) + 2) return;
  process.stdout.write(text.slice(found[0].length, found[0].length + Number(found[1])) + '\\n');
  socket.end();
});
`;

describe('what the documents say', function () {
  this.timeout(60_000);
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    readonly scripts: Readonly<Record<string, string>>;
  };
  let place: string;
  let base: number;
  let cluster: ChildProcess;
  let output = '';

  /** With the ports of this run, and without the meter that curl shows where it is no terminal. */
  const moved = (text: string): string =>
    text
      .replaceAll('curl ', 'curl -sS ')
      .replace(/\b70([0-2]\d)\b/g, (_whole, rest: string) => String(base + Number(rest)));
  const environment = (): NodeJS.ProcessEnv => ({
    ...process.env,
    PATH: `${join(place, 'bin')}:${process.env['PATH'] ?? ''}`,
    KVCTL_ENDPOINT: `http://127.0.0.1:${base}`,
  });
  const shell = (text: string): Promise<Ran> =>
    new Promise((resolve) => {
      const options = { cwd: place, env: environment(), timeout: 30_000 };
      execFile('sh', ['-ec', moved(text)], options, (error, stdout, stderr) =>
        resolve({ code: error === null ? 0 : 1, stdout, stderr }),
      );
    });
  const program = (text: string): Promise<Ran> => {
    const file = join(place, 'program.mjs');
    writeFileSync(file, moved(text));
    return shell(`'${process.execPath}' '${file}'`);
  };

  before(async () => {
    place = mkdtempSync(join(tmpdir(), 'kvd-readme-'));
    base = await freeBasePort(3);
    const bin = join(place, 'bin');
    mkdirSync(bin);
    mkdirSync(join(place, 'node_modules'));
    symlinkSync(root, join(place, 'node_modules', 'kvd'));
    const [kvd, kvctl] = ['kvd', 'kvctl'].map((name) => join(root, 'dist', 'cli', `${name}.js`));
    const npm = `#!/bin/sh
case "$1 $2 $3" in
  'ci  ') ;;
  'start  ') exec '${process.execPath}' '${kvd ?? ''}' dev --base-port ${base} ;;
  'run --silent kvctl') shift 4; exec '${process.execPath}' '${kvctl ?? ''}' "$@" ;;
  *) echo "npm $* is not known here" >&2; exit 1 ;;
esac
`;
    writeFileSync(join(bin, 'npm'), npm, { mode: 0o755 });
    const direct = `#!/bin/sh\nexec '${process.execPath}' '${kvctl ?? ''}' "$@"\n`;
    writeFileSync(join(bin, 'kvctl'), direct, { mode: 0o755 });
    writeFileSync(join(bin, 'redis-cli'), redisCli, { mode: 0o755 });
    const [start = ''] = blocksOf('README.md', 'sh');
    cluster = spawn('sh', ['-ec', `exec ${start.trim().replace('npm ci && ', '')}`], {
      cwd: place,
      env: environment(),
    });
    await new Promise<void>((resolve, reject) => {
      const heard = (chunk: Buffer): void => {
        output += chunk.toString();
        if (/^ready/m.test(output) && output.includes('Ctrl-C')) resolve();
      };
      cluster.stdout?.on('data', heard);
      cluster.stderr?.on('data', heard);
      cluster.once('exit', () => reject(new Error(`it did not start:\n${output}`)));
    });
  });
  after(async () => {
    const ended = new Promise((resolve) => {
      cluster.once('exit', resolve);
    });
    cluster.kill('SIGTERM');
    await ended;
    rmSync(place, { recursive: true, force: true });
  });

  it('README: its scripts are those of package.json, and the first block starts three nodes', () => {
    const [start] = blocksOf('README.md', 'sh');
    expect(start).to.equal('npm ci && npm start\n');
    expect(scripts['start']).to.match(/&& node dist\/cli\/kvd\.js dev$/);
    expect(scripts['kvctl']).to.match(/&& node dist\/cli\/kvctl\.js$/);
    for (const port of [base, base + 10, base + 20]) expect(output).to.include(`:${port}`);
    expect(output).to.match(/pid \d+/);
  });

  it('README: the tour does what it looks like, and goes on when a node is killed', async () => {
    const [, tour = ''] = blocksOf('README.md', 'sh');
    const lines = tour.trim().split('\n');
    const first = await shell(tour);
    expect([first.code, first.stderr]).to.deep.equal([0, '']);
    expect(lines.length).to.equal(5);
    expect(first.stdout).to.match(
      /^OK version \d+\n"hello"\n[^]*n1[^]*n2[^]*n3[^]*"value":"hello"[^]*"hello"\n$/,
    );
    // The third node: those of the blocks that are asked below stay.
    const pid = /^ {2}n3 .* pid (\d+)$/m.exec(output)?.[1];
    await shell(`kill -9 ${pid ?? 'unknown'}`);
    const then = await shell(lines.slice(0, 2).join('\n'));
    expect([then.code, then.stdout]).to.deep.equal([0, 'OK version 2\n"hello"\n']);
  });

  it('docs/http.md: the first block writes, reads, lists and deletes', async () => {
    const [block = ''] = blocksOf('docs/http.md', 'sh');
    const { code, stdout } = await shell(block);
    expect(code).to.equal(0);
    expect(stdout).to.match(
      /"status":"success"[^]*"value":\{"name":"Ada"\}[^]*"items":\[[^]*"deleted":true/,
    );
  });

  it('docs/client.md: the first program runs', async () => {
    const [block = ''] = blocksOf('docs/client.md', 'js');
    const { code, stdout, stderr } = await program(block);
    expect([code, stderr]).to.deep.equal([0, '']);
    expect(stdout).to.match(/^Ada \d+ 3600\nuser:1\n$/);
  });

  it('docs/embedded.md: the program prints what is said', async () => {
    const [block = ''] = blocksOf('docs/embedded.md', 'js');
    const [printed] = blocksOf('docs/embedded.md', 'text');
    const { code, stdout, stderr } = await program(block);
    expect([code, stdout, stderr]).to.deep.equal([0, printed, '']);
  });

  it('docs/testing-with-kvd.md: the simulated test passes', async () => {
    const [block = ''] = blocksOf('docs/testing-with-kvd.md', 'js');
    const frame = `import assert from 'node:assert';\nconst it = async (_name, run) => run();\n`;
    const { code, stderr } = await program(frame + block);
    expect([code, stderr]).to.deep.equal([0, '']);
  });
});
