// Which clients count as taking nothing: by what has left of what waits, on a clock of the test.

import { expect } from 'chai';
import { SendProgress } from '../../transport/stall-watch.ts';

const stallMs = 60_000;
const lookMs = 15_000;

describe('stall watch', () => {
  /** The look at which a connection is cut that takes so many bytes between two; 0: it is not. */
  function cutAt(takenBytes: number, waitingBytes = 1_000_000): number {
    const socket = { bytesWritten: 100_000_000, writableLength: waitingBytes };
    const progress = new SendProgress(socket, 0);
    // The first look is where the count begins.
    progress.isStalled(0, stallMs);
    for (let look = 1; look <= 40; look += 1) {
      socket.bytesWritten += takenBytes;
      if (progress.isStalled(look * lookMs, stallMs)) return look;
    }
    return 0;
  }

  for (const [name, takenBytes, look] of [
    ['nothing is taken', 0, 4],
    ['a byte now and then', 1, 4],
    ['a little less than 1 KiB/s', 15 * 1024 - 1, 4],
    ['1 KiB/s', 15 * 1024, 0],
    ['much now and then', 100_000, 0],
  ] as const)
    it(`stall watch: ${name} (cut at look ${look} of 15 s)`, () => {
      expect(cutAt(takenBytes)).to.equal(look);
    });

  it('stall watch: where nothing waits, nothing has to be taken', () => {
    expect(cutAt(0, 0)).to.equal(0);
  });
});
