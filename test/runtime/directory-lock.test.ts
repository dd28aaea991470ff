// One owner per data directory (FS-10), also after a kill -9.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { type DirectoryLock, lockDirectory } from '../../runtime/host/directory-lock.ts';

const holderFile = fileURLToPath(new URL('./lock-holder.js', import.meta.url));

async function startHolder(root: string): Promise<ChildProcess> {
  const child = spawn(process.execPath, [holderFile, root], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout as NodeJS.ReadableStream, 'data');
  return child;
}

async function refusal(root: string): Promise<string> {
  return lockDirectory(root).then(
    () => 'not refused',
    (error: unknown) => (error as Error).message,
  );
}

describe('directory lock', () => {
  let top: string;
  let root: string;

  beforeEach(() => {
    top = fs.mkdtempSync(path.join(os.tmpdir(), 'kvd-lock-'));
    root = path.join(top, 'data');
  });

  afterEach(() => fs.rmSync(top, { recursive: true }));

  it('directory lock: another process is refused, by any path, and told who holds it', async () => {
    const lock = await lockDirectory(root);
    fs.symlinkSync(root, path.join(top, 'link'));
    const link = path.join(top, 'link');
    const sentence = `in use by process ${process.pid}; stop it or choose another one`;
    expect(await refusal(root)).to.equal(`CONFLICT: the data directory ${root} is ${sentence}`);
    expect(await refusal(link)).to.equal(`CONFLICT: the data directory ${link} is ${sentence}`);
    await lock.release();
    expect(fs.readdirSync(root)).to.deep.equal([]);
    const next = await lockDirectory(root);
    await next.release();
  });

  it('directory lock: a process that is killed holds nothing any more (signal=SIGKILL)', async () => {
    const child = await startHolder(root);
    expect(await refusal(root)).to.include(`in use by process ${String(child.pid)};`);
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(fs.readFileSync(path.join(root, 'kvd.pid'), 'utf8')).to.equal(`${String(child.pid)}\n`);
    const lock: DirectoryLock = await lockDirectory(root);
    expect(fs.readFileSync(path.join(root, 'kvd.pid'), 'utf8')).to.equal(`${process.pid}\n`);
    await lock.release();
  });

  it('directory lock: two directories have two locks', async () => {
    const one = await lockDirectory(path.join(top, 'one'));
    const two = await lockDirectory(path.join(top, 'two'));
    await one.release();
    await two.release();
    expect(await refusal(path.join(top, 'one'))).to.equal('not refused');
  });
});
