// A process of its own for storage.test.ts: writes to the directory that it is given until it is
// killed, and prints the number of each write when it was acknowledged. Every write is a put and a
// batch of three. With `batch` it writes one key and one batch only, says so, and waits.

import { openStorage } from '../../cli/embedded/storage.ts';

const [, , directory = '', durability = 'group', mode = 'stream'] = process.argv;
const storage = await openStorage({
  directory,
  durability: durability === 'none' ? 'none' : 'group',
  settings: { memtableBytes: 256 * 1024, walSegmentBytes: 256 * 1024 },
});
const filler = 'x'.repeat(500);

async function write(n: number): Promise<void> {
  await storage.put(`put:${n}`, `${n} ${filler}`);
  await storage.batch(
    ['a', 'b', 'c'].map((part) => ({ type: 'put', key: `${part}:${n}`, value: `${n}` })),
  );
  process.stdout.write(`${n}\n`);
}

if (mode === 'batch') {
  await storage.put('before', filler);
  const keys = Array.from({ length: 50 }, (_, n) => `part:${n}`);
  await storage.batch(keys.map((key) => ({ type: 'put', key, value: filler })));
  process.stdout.write('written\n');
  setInterval(() => undefined, 60_000);
} else {
  let next = 0;
  const writer = async (): Promise<void> => {
    for (;;) {
      const n = next;
      next += 1;
      await write(n);
    }
  };
  await Promise.all(Array.from({ length: 8 }, writer));
}
