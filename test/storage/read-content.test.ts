// What is read of a file that was extended ahead is the file, byte for byte, wherever its zeros are.

import { expect } from 'chai';
import { readContent } from '../../actors/storage/read-content.ts';
import { MemoryDisk } from '../kit-disk.ts';

const chunk = 256 * 1024;

describe('read-content', () => {
  for (const [size, written] of [
    [0, []],
    [1, [0]],
    [chunk, []],
    [chunk, [chunk - 1]],
    [chunk + 1, [chunk]],
    [chunk * 2 + 5, [0]],
    [chunk * 3, [chunk, chunk + 9]],
    [chunk * 3 + 100, [chunk * 3 + 99]],
  ] as const)
    it(`read-content: gives the whole file (size=${size}, nonzero=${written.join('+')})`, () => {
      const disk = new MemoryDisk();
      const file = disk.open('f', 'create');
      file.truncate(size);
      const expected = new Uint8Array(size);
      for (const at of written) {
        expected[at] = 7;
        file.write(new Uint8Array([7]), at);
      }
      expect(Buffer.compare(readContent(disk, 'f'), expected)).to.equal(0);
    });
});
