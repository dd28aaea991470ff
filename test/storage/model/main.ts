// The model test of the storage for as long as somebody likes: all strategies and codecs, or one.
//
//   npm run test:model -- --operations 100000 --seeds 10 --strategy leveled --codec lz4 --seed 1
//
// `--operations` is for each seed of each combination; `--seed` is the first of `--seeds`. Strategy and
// codec are those of the node: the namespaces choose others on the way. Ends with 1 and the seed where
// shard and map differ.

import { parseArgs } from 'node:util';
import {
  type CompactionStrategy,
  compactionStrategies,
} from '../../../actors/model/table-choices.ts';
import { type CodecName, codecNames, runModel } from './model-run.ts';

const { values } = parseArgs({
  options: {
    operations: { type: 'string', default: '100000' },
    seeds: { type: 'string', default: '1' },
    seed: { type: 'string', default: '1' },
    keys: { type: 'string', default: '2000' },
    strategy: { type: 'string' },
    codec: { type: 'string' },
  },
});

function countOf(name: 'operations' | 'seeds' | 'seed' | 'keys'): number {
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

interface Combination {
  readonly strategy: CompactionStrategy;
  readonly codec: CodecName;
}

/** All seeds of one combination, added up. */
async function runAll({ strategy, codec }: Combination): Promise<number> {
  const [ops, seeds, first] = [countOf('operations'), countOf('seeds'), countOf('seed')];
  const keyCount = countOf('keys');
  const startedMs = performance.now();
  const sums = new Map<string, number>();
  for (let seed = first; seed < first + seeds; seed += 1) {
    const progress = (done: number): void => {
      if (process.stderr.isTTY) process.stderr.write(`\r${strategy} ${codec} ${seed}: ${done} `);
    };
    const report = await runModel({ seed, ops, strategy, codec, keyCount, progress });
    for (const [name, count] of Object.entries(report) as [string, number][])
      sums.set(name, (sums.get(name) ?? 0) + count);
  }
  const seconds = (performance.now() - startedMs) / 1000;
  const done = sums.get('ops') ?? 0;
  const figures = [...sums].map(([name, count]) => `${name} ${count}`).join(', ');
  const rate = Math.round(done / seconds);
  process.stdout.write(`${strategy} ${codec}: ${figures}; ${rate} ops per second\n`);
  return done;
}

async function main(): Promise<void> {
  let done = 0;
  for (const strategy of chosen('strategy', compactionStrategies))
    for (const codec of chosen('codec', codecNames)) done += await runAll({ strategy, codec });
  process.stdout.write(`${done} operations, shard and map agree\n`);
}

try {
  await main();
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exitCode = 1;
}
