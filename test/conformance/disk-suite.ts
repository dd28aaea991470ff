// What every Disk promises (runtime/environment.ts), as one suite: the real disk and the simulated
// one run it, so that what holds in simulation holds on the machine.

import { expect } from 'chai';
import { concatBytes, utf8 } from '../../runtime/bytes.ts';
import type { Disk, DiskFile } from '../../runtime/environment.ts';
import { BugError } from '../../runtime/errors.ts';
import { codeRejectedBy, codeThrownBy } from '../kit.ts';

export interface DiskUnderTest {
  readonly disk: Disk;
  readonly close: () => Promise<void>;
}

const text = (content: string): Uint8Array => utf8.encode(content);

function contentOf(file: DiskFile): string {
  const target = new Uint8Array(file.size());
  expect(file.read(target, 0)).to.equal(file.size());
  return utf8.decode(target);
}

function synced(file: DiskFile): Promise<Error | undefined> {
  return new Promise((resolve) => {
    file.sync(resolve);
  });
}

/** Tests `make`'s disk, a fresh and empty one for each test. `name` begins every test's name. */
export function diskSuite(name: string, make: () => Promise<DiskUnderTest>): void {
  describe(`disk: ${name}`, () => {
    let disk: Disk;
    let close: () => Promise<void>;

    beforeEach(async () => {
      ({ disk, close } = await make());
    });

    afterEach(() => close());

    it('disk: writes land at their position, and a hole reads as zeros', () => {
      const file = disk.open('a', 'create');
      file.write(text('hello'), 0);
      file.write(text('J'), 0);
      file.write(text('!'), 7);
      expect(file.size()).to.equal(8);
      expect(contentOf(file)).to.equal('Jello\0\0!');
      file.close();
      expect(utf8.decode(disk.read('a') ?? text('nothing'))).to.equal('Jello\0\0!');
    });

    it('disk: a read is short at the end of the file only', () => {
      const file = disk.open('a', 'create');
      file.write(text('0123456789'), 0);
      const target = new Uint8Array(4);
      expect(file.read(target, 3)).to.equal(4);
      expect(utf8.decode(target)).to.equal('3456');
      expect(file.read(target, 8)).to.equal(2);
      expect(utf8.decode(target)).to.equal('8956');
      expect(file.read(target, 10)).to.equal(0);
      expect(file.read(target, 99)).to.equal(0);
      file.close();
    });

    it('disk: a large write is whole (bytes=3000000)', () => {
      const bytes = new Uint8Array(3_000_000).map((_, i) => i % 251);
      const file = disk.open('a', 'create');
      file.write(bytes, 1);
      const target = new Uint8Array(bytes.length);
      expect(file.read(target, 1)).to.equal(bytes.length);
      expect(Buffer.compare(target, bytes)).to.equal(0);
      file.close();
    });

    it('disk: create wants no file, read and modify want one', () => {
      expect(codeThrownBy(() => disk.open('a', 'read'))).to.equal('NOT_FOUND');
      expect(codeThrownBy(() => disk.open('a', 'modify'))).to.equal('NOT_FOUND');
      disk.open('a', 'create').close();
      expect(codeThrownBy(() => disk.open('a', 'create'))).to.equal('CONFLICT');
      expect(codeThrownBy(() => disk.open('none/a', 'create'))).to.equal('NOT_FOUND');
      const file = disk.open('a', 'modify');
      file.write(text('x'), 0);
      file.close();
      const again = disk.open('a', 'read');
      expect(again.size()).to.equal(1);
      expect(again.path).to.equal('a');
      again.close();
    });

    it('disk: truncate cuts, and extends with zeros', () => {
      const file = disk.open('a', 'create');
      file.write(text('hello'), 0);
      file.truncate(2);
      expect(contentOf(file)).to.equal('he');
      file.truncate(4);
      expect(contentOf(file)).to.equal('he\0\0');
      file.close();
    });

    it('disk: sync ends without an error, also when the file is closed meanwhile', async () => {
      const file = disk.open('a', 'create');
      file.write(text('x'), 0);
      expect(await synced(file)).to.equal(undefined);
      file.truncate(0);
      const last = synced(file);
      file.close();
      expect(await last).to.equal(undefined);
    });

    it('disk: a closed file is not used again; closing twice is harmless', () => {
      const file = disk.open('a', 'create');
      file.close();
      file.close();
      expect(() => file.write(text('x'), 0)).to.throw(BugError);
      expect(() => file.read(new Uint8Array(1), 0)).to.throw(BugError);
    });

    it('disk: replace makes a file and swaps the whole of one', async () => {
      await disk.replace('a', text('a long first content'));
      await disk.replace('a', text('second'));
      expect(utf8.decode(disk.read('a') ?? text('nothing'))).to.equal('second');
      expect(disk.list('')).to.deep.equal(['a']);
    });

    it('disk: replaces of one path take effect in their order, with the bytes of their call', async () => {
      const bytes = text('0');
      const replaces: Promise<void>[] = [];
      for (let i = 0; i < 5; i += 1) {
        bytes[0] = 0x30 + i;
        replaces.push(disk.replace('a', bytes));
      }
      await Promise.all(replaces);
      expect(utf8.decode(disk.read('a') ?? text('nothing'))).to.equal('4');
    });

    it('disk: replace in a directory that does not exist is NOT_FOUND', async () => {
      expect(await codeRejectedBy(disk.replace('none/a', text('x')))).to.equal('NOT_FOUND');
    });

    it('disk: directories are made with their parents, again and again', async () => {
      await disk.makeDirectory('a/b/c');
      await disk.makeDirectory('a/b/c');
      await disk.makeDirectory('a/b/d');
      await disk.syncDirectory('a/b');
      disk.open('a/b/file', 'create').close();
      expect(disk.list('a/b')).to.deep.equal(['c', 'd', 'file']);
      expect(disk.list('a')).to.deep.equal(['b']);
      expect(disk.exists('a/b/c')).to.equal(true);
    });

    it('disk: list is sorted by code units, and empty where there is no directory', () => {
      for (const file of ['b', 'a10', 'a9', 'B']) disk.open(file, 'create').close();
      expect(disk.list('')).to.deep.equal(['B', 'a10', 'a9', 'b']);
      expect(disk.list('none')).to.deep.equal([]);
    });

    it('disk: rename moves a file over another one', async () => {
      await disk.makeDirectory('d');
      await disk.replace('a', text('new'));
      await disk.replace('d/b', text('old'));
      disk.rename('a', 'd/b');
      expect(disk.exists('a')).to.equal(false);
      expect(utf8.decode(disk.read('d/b') ?? text('nothing'))).to.equal('new');
      expect(codeThrownBy(() => disk.rename('a', 'c'))).to.equal('NOT_FOUND');
    });

    it('disk: a link is a second name, which lasts when the first one goes', async () => {
      await disk.makeDirectory('d');
      await disk.replace('a', text('shared'));
      disk.link('a', 'd/b');
      await disk.syncDirectory('d');
      expect(codeThrownBy(() => disk.link('a', 'd/b'))).to.equal('CONFLICT');
      expect(codeThrownBy(() => disk.link('none', 'c'))).to.equal('NOT_FOUND');
      expect(codeThrownBy(() => disk.link('a', 'none/c'))).to.equal('NOT_FOUND');
      const file = disk.open('a', 'modify');
      file.write(text('S'), 0);
      file.close();
      disk.remove('a');
      expect(disk.list('')).to.deep.equal(['d']);
      expect(utf8.decode(disk.read('d/b') ?? text('nothing'))).to.equal('Shared');
      disk.rename('d/b', 'd/c');
      expect(disk.list('d')).to.deep.equal(['c']);
    });

    it('disk: a removed file is gone by name, and readable through an open handle', async () => {
      await disk.replace('a', text('still here'));
      const file = disk.open('a', 'read');
      disk.remove('a');
      disk.remove('a');
      expect(disk.exists('a')).to.equal(false);
      expect(disk.read('a')).to.equal(undefined);
      expect(contentOf(file)).to.equal('still here');
      file.close();
    });

    it('disk: a path that leaves the data directory is a bug', () => {
      for (const path of ['../a', '/etc/passwd', 'a/../../b', 'a//b', 'a\0b', './a'])
        expect(() => disk.open(path, 'read'), path).to.throw(BugError);
    });

    it('disk: free bytes are a positive number', () => {
      expect(disk.freeBytes()).to.be.above(0);
    });

    it('disk: two handles of one file see each other (WAL readers and writers)', () => {
      const writer = disk.open('a', 'create');
      const reader = disk.open('a', 'read');
      writer.write(concatBytes([text('ab'), text('cd')]), 0);
      const target = new Uint8Array(4);
      expect(reader.read(target, 0)).to.equal(4);
      expect(utf8.decode(target)).to.equal('abcd');
      writer.close();
      reader.close();
    });
  });
}
