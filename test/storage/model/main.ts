// The model test of the storage for as long as somebody likes: all strategies and codecs, or one.
//
//   npm run test:model -- --ops 2000000 --strategy leveled --codec lz4 --seed 1
//
// `--ops` is for each combination. Ends with 1 and the seed where shard and map differ.

import { parseArgs } from 'node:util';
import { compactionStrategies } from '../../../actors/storage/compaction-picker.ts';
import { codecNames, runModel } from './model-run.ts';

const { values } = parseArgs({
  options: {
    ops: { type: 'string', default: '100000' },
    seed: { type: 'string', default: '1' },
    keys: { type: 'string', default: '2000' },
    strategy: { type: 'string' },
    codec: { type: 'string' },
  },
});

function countOf(name: 'ops' | 'seed' | 'keys'): number {
  const count = Number(values[name]);
  if (!Number.isSafeInteger(count) || count < 1)
    throw new Error(`--${name}: a whole number from 1`);
  return count;
}

function chosen<T extends string>(name: 'strategy' | 'codec', all: readonly T[]): readonly T[] {
  const wanted = values[name];
  if (wanted === undefined) return all;
  const found = all.find((one) => one === wanted);
  if (found === undefined) throw new Error(`--${name}: one of ${all.join(', ')}`);
  return [found];
}

async function main(): Promise<void> {
  const [ops, seed, keyCount] = [countOf('ops'), countOf('seed'), countOf('keys')];
  for (const strategy of chosen('strategy', compactionStrategies))
    for (const codec of chosen('codec', codecNames)) {
      const startedMs = performance.now();
      const progress = (done: number): void => {
        if (process.stderr.isTTY) process.stderr.write(`\r${strategy} ${codec}: ${done} `);
      };
      const report = await runModel({ seed, ops, strategy, codec, keyCount, progress });
      const seconds = (performance.now() - startedMs) / 1000;
      const figures = Object.entries(report).map(([name, count]) => `${name} ${String(count)}`);
      const rate = Math.round(report.ops / seconds);
      process.stdout.write(`${strategy} ${codec}: ${figures.join(', ')}; ${rate} ops per second\n`);
    }
}

try {
  await main();
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exitCode = 1;
}
