// The real disk: the conformance suite, and what only a real one has (modes, device errors).

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { expect } from 'chai';
import sinon from 'sinon';
import { CorruptionError, KvError } from '../../runtime/errors.ts';
import { createNodeDisk } from '../../runtime/host/node-disk.ts';
import { diskSuite } from '../conformance/disk-suite.ts';
import { codeRejectedBy, codeThrownBy } from '../kit.ts';

function temporaryDirectory(): string {
  return fs.mkdtempSync(path.join(os.tmpdir(), 'kvd-disk-'));
}

diskSuite('node', () => {
  const root = temporaryDirectory();
  return Promise.resolve({
    disk: createNodeDisk(path.join(root, 'data')),
    close: () => Promise.resolve(fs.rmSync(root, { recursive: true })),
  });
});

function deviceError(code: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: as the device says`), { code });
}

describe('disk: node', () => {
  let root: string;

  beforeEach(() => {
    root = temporaryDirectory();
  });

  afterEach(() => {
    sinon.restore();
    fs.rmSync(root, { recursive: true });
  });

  it('disk: files and directories are for their owner only (SE-22)', async () => {
    const disk = createNodeDisk(path.join(root, 'data'));
    await disk.makeDirectory('d');
    await disk.replace('d/file', new Uint8Array(1));
    const modeOf = (name: string): number => fs.statSync(path.join(root, name)).mode & 0o777;
    expect(['data', 'data/d', 'data/d/file'].map(modeOf)).to.deep.equal([0o700, 0o700, 0o600]);
  });

  it('disk: a short write is continued (FS-8), and a short read too', () => {
    const disk = createNodeDisk(root);
    const write = fs.writeSync as (...args: unknown[]) => number;
    sinon
      .stub(fs, 'writeSync')
      .callsFake(((fd: number, bytes: Uint8Array, from: number, length: number, at: number) =>
        write(fd, bytes, from, Math.min(length, 3), at)) as never);
    const file = disk.open('a', 'create');
    const bytes = new Uint8Array(10).map((_, i) => i);
    file.write(bytes, 5);
    sinon.restore();
    const read = fs.readSync as (...args: unknown[]) => number;
    sinon
      .stub(fs, 'readSync')
      .callsFake(((fd: number, into: Uint8Array, from: number, length: number, at: number) =>
        read(fd, into, from, Math.min(length, 4), at)) as never);
    const target = new Uint8Array(10);
    expect(file.read(target, 5)).to.equal(10);
    expect([...target]).to.deep.equal([...bytes]);
    file.close();
  });

  it('disk: a full disk is DISK_FULL, does not count the write, and is not for good', () => {
    const file = createNodeDisk(root).open('a', 'create');
    file.write(new Uint8Array(4), 0);
    sinon.stub(fs, 'writeSync').throws(deviceError('ENOSPC'));
    expect(codeThrownBy(() => file.write(new Uint8Array(8), 4))).to.equal('DISK_FULL');
    expect(file.size()).to.equal(4);
    sinon.restore();
    file.truncate(4);
    file.write(new Uint8Array(8), 4);
    expect(file.size()).to.equal(12);
    file.close();
  });

  it('disk: a write that fails poisons the file for good (FS-6)', () => {
    const file = createNodeDisk(root).open('a', 'create');
    sinon.stub(fs, 'writeSync').throws(deviceError('EIO'));
    expect(codeThrownBy(() => file.write(new Uint8Array(8), 0))).to.equal('DISK_FAILED');
    sinon.restore();
    expect(codeThrownBy(() => file.write(new Uint8Array(8), 0))).to.equal('DISK_FAILED');
    expect(codeThrownBy(() => file.sync(() => undefined))).to.equal('DISK_FAILED');
    expect(codeThrownBy(() => file.truncate(0))).to.equal('DISK_FAILED');
    file.close();
  });

  it('disk: a sync that fails poisons the file for good (FS-6)', async () => {
    const file = createNodeDisk(root).open('a', 'create');
    file.write(new Uint8Array(8), 0);
    sinon.stub(fs, 'fdatasync').callsFake((_, done) => setImmediate(done, deviceError('EIO')));
    const error = await new Promise<Error | undefined>((resolve) => {
      file.sync(resolve);
    });
    sinon.restore();
    expect(error).to.be.instanceOf(KvError).with.property('code', 'DISK_FAILED');
    expect(codeThrownBy(() => file.write(new Uint8Array(8), 8))).to.equal('DISK_FAILED');
    file.close();
  });

  it('disk: what is removed is gone at once, and its space is given back by the last close', async () => {
    const disk = createNodeDisk(root);
    for (const name of ['a', 'b', 'c']) disk.open(name, 'create').close();
    const closing: string[] = [];
    const closed: Promise<void>[] = [];
    const close = fs.close.bind(fs);
    sinon.stub(fs, 'close').callsFake((fd, done) => {
      closing.push('begins');
      const ended = new Promise<void>((resolve) => {
        close(fd, (error) => {
          closing.push(error === null ? 'ends' : error.message);
          done?.(error);
          resolve();
        });
      });
      closed.push(ended);
    });
    for (const name of ['a', 'b', 'c', 'never-there']) disk.remove(name);
    expect([disk.list(''), closing]).to.deep.equal([[], ['begins']]);
    // Each one begins when the one before has ended.
    for (let i = 0; i < 3; i += 1) await closed[i];
    const inTurn = ['begins', 'ends', 'begins', 'ends', 'begins', 'ends'];
    expect(closing).to.deep.equal(inTurn);
  });

  it('disk: many files are removed with few descriptors, and a pipe is not waited for', () => {
    const disk = createNodeDisk(root);
    const names = Array.from({ length: 100 }, (_, i) => `f${String(i).padStart(2, '0')}`);
    for (const name of names) disk.open(name, 'create').close();
    execFileSync('mkfifo', [path.join(root, 'pipe')]);
    const opened = sinon.spy(fs, 'openSync');
    for (const name of ['pipe', ...names]) disk.remove(name);
    expect([disk.list(''), opened.callCount]).to.deep.equal([[], 16]);
  });

  it('disk: what cannot be opened can be removed', () => {
    const disk = createNodeDisk(root);
    disk.open('a', 'create').close();
    sinon.stub(fs, 'openSync').throws(deviceError('EMFILE'));
    disk.remove('a');
    expect(disk.list('')).to.deep.equal([]);
  });

  it('disk: an unreadable block is rot at that place, not a dead disk (FS-7)', () => {
    const file = createNodeDisk(root).open('a', 'create');
    file.write(new Uint8Array(8), 0);
    sinon.stub(fs, 'readSync').throws(deviceError('EIO'));
    expect(() => file.read(new Uint8Array(4), 4))
      .to.throw(CorruptionError)
      .with.property('offset', 4);
    sinon.restore();
    file.write(new Uint8Array(8), 8);
    file.close();
  });

  it('disk: a cut file is synced with its metadata, a grown one without (FS-1)', async () => {
    const file = createNodeDisk(root).open('a', 'create');
    const data = sinon.spy(fs, 'fdatasync');
    const all = sinon.spy(fs, 'fsync');
    const sync = (): Promise<unknown> => new Promise((resolve) => file.sync(resolve));
    await sync();
    file.truncate(0);
    await sync();
    await sync();
    expect([data.callCount, all.callCount]).to.deep.equal([2, 1]);
    file.close();
  });

  it('disk: replace syncs the file before the rename and the directory after it (FS-4)', async () => {
    const disk = createNodeDisk(root);
    const order: string[] = [];
    const note = (name: 'fdatasync' | 'renameSync' | 'fsync'): void => {
      const real = fs[name] as (...args: unknown[]) => unknown;
      sinon.stub(fs, name).callsFake((...args: unknown[]) => {
        order.push(name);
        return real(...args);
      });
    };
    note('fdatasync');
    note('renameSync');
    note('fsync');
    await disk.replace('a', new Uint8Array(1));
    expect(order).to.deep.equal(['fdatasync', 'renameSync', 'fsync']);
  });

  it('disk: a replace that fails keeps the old file and leaves no other', async () => {
    const disk = createNodeDisk(root);
    await disk.replace('a', new Uint8Array([1]));
    sinon.stub(fs, 'writeSync').throws(deviceError('ENOSPC'));
    expect(await codeRejectedBy(disk.replace('a', new Uint8Array([2])))).to.equal('DISK_FULL');
    sinon.restore();
    expect([...(disk.read('a') ?? [])]).to.deep.equal([1]);
    expect(disk.list('')).to.deep.equal(['a']);
  });

  it('disk: a temporary file that a crash left does not stop the next replace', async () => {
    fs.writeFileSync(path.join(root, 'a.tmp'), 'half');
    const disk = createNodeDisk(root);
    await disk.replace('a', new Uint8Array([2]));
    expect(disk.list('')).to.deep.equal(['a']);
  });
});
