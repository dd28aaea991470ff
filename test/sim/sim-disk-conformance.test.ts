// The simulated disk keeps the promises of every disk.

import { Prng } from '../../runtime/prng.ts';
import { SimProcess } from '../../sim/process.ts';
import { SimDisk, SimStorage } from '../../sim/sim-disk.ts';
import { World } from '../../sim/world.ts';
import { diskSuite, type DiskUnderTest } from '../conformance/disk-suite.ts';

/** A disk in a world that runs until it is closed, whatever its user waits for. */
function openDisk(): Promise<DiskUnderTest> {
  const world = new World({ seed: 1 });
  const process: SimProcess = new SimProcess('n1', world, () => process.end());
  let stop: () => void = () => undefined;
  const stopped = new Promise<void>((resolve) => {
    stop = resolve;
  });
  const beat = (): void => {
    world.after(10, process, 'beat', beat);
  };
  const ended = world.run(() => {
    beat();
    return stopped;
  });
  const disk = new SimDisk(new SimStorage(new Prng(1)), process);
  const close = (): Promise<void> => {
    stop();
    return ended;
  };
  return Promise.resolve({ disk, close });
}

diskSuite('the simulated disk', openDisk);
