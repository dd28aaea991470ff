// `npm run test:system -- [--nodes 3] [--seconds 60] [--seed 1] [--base-port 18000]`: prints what was
// done and what each check judged, ends with `N passed, N failed`.

import { parseArgs } from 'node:util';
import { runSystem } from './run-system.ts';

const { values } = parseArgs({
  options: {
    nodes: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '60' },
    seed: { type: 'string', default: '1' },
    'base-port': { type: 'string', default: '18000' },
  },
});

const report = await runSystem({
  nodes: Number(values.nodes),
  seconds: Number(values.seconds),
  seed: Number(values.seed),
  basePort: Number(values['base-port']),
});
const { operations, acked, unknown, refused, faults, verdicts, notes } = report;
const storm = [...faults].map(([name, count]) => `${name} ${count}`).join(', ');
process.stdout.write(
  `${values.nodes} nodes, ${values.seconds} s, seed ${values.seed}: ${operations} operations, ` +
    `${acked} acknowledged, ${unknown} unknown, ${refused} refused\nfaults: ${storm}\n`,
);
for (const note of notes) process.stdout.write(`note: ${note}\n`);
let failed = 0;
for (const { name, judged, violations } of verdicts) {
  process.stdout.write(`${violations.length === 0 ? 'ok  ' : 'FAIL'} ${name}: ${judged} judged\n`);
  for (const violation of violations) process.stdout.write(`     ${violation}\n`);
  failed += violations.length === 0 ? 0 : 1;
}
process.stdout.write(`${verdicts.length - failed} passed, ${failed} failed\n`);
process.exitCode = failed === 0 ? 0 : 1;
