// `npm run test:fuzz -- --seconds 120 --seed 7`: hostile input against a real node, for as long as
// wanted. Exit code 1 where something did not hold; the seed is printed to run it again.

import { parseArgs } from 'node:util';
import { fuzz } from './fuzz-run.ts';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    parallel: { type: 'string', default: '16' },
    nodes: { type: 'string', default: '2' },
  },
});
const options = {
  seconds: Number(values.seconds),
  seed: Number(values.seed),
  parallel: Number(values.parallel),
  nodes: values.nodes === '1' ? (1 as const) : (2 as const),
};
process.stdout.write(`fuzz: seed ${options.seed}, ${options.seconds} s\n`);
const { problems, ...figures } = await fuzz(options);
process.stdout.write(`${JSON.stringify(figures)}\n`);
for (const problem of problems) process.stdout.write(`${problem}\n`);
process.exitCode = problems.length === 0 ? 0 : 1;
