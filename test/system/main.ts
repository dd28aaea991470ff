// `npm run test:system -- [--nodes 3,5] [--seconds 60] [--seed 1] [--base-port 18000]`: one cluster
// after the other, so many seconds each; prints what was done and what each check judged, ends with
// `N passed, N failed`.

import { parseArgs } from 'node:util';
import { runSystem, type SystemReport } from './run-system.ts';

const { values } = parseArgs({
  options: {
    nodes: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '60' },
    seed: { type: 'string', default: '1' },
    'base-port': { type: 'string', default: '18000' },
  },
});

function show(nodes: number, report: SystemReport): number {
  const { operations, acked, unknown, refused, faults, verdicts, notes } = report;
  const storm = [...faults].map(([name, count]) => `${name} ${count}`).join(', ');
  process.stdout.write(
    `${nodes} nodes, ${values.seconds} s, seed ${values.seed}: ${operations} operations, ` +
      `${acked} acknowledged, ${unknown} unknown, ${refused} refused\nfaults: ${storm}\n`,
  );
  for (const note of notes) process.stdout.write(`note: ${note}\n`);
  let failed = 0;
  for (const { name, judged, violations } of verdicts) {
    process.stdout.write(
      `${violations.length === 0 ? 'ok  ' : 'FAIL'} ${name}: ${judged} judged\n`,
    );
    for (const violation of violations) process.stdout.write(`     ${violation}\n`);
    failed += violations.length === 0 ? 0 : 1;
  }
  return failed;
}

let [judged, failed] = [0, 0];
for (const nodes of values.nodes.split(',').map(Number)) {
  const report = await runSystem({
    nodes,
    seconds: Number(values.seconds),
    seed: Number(values.seed),
    basePort: Number(values['base-port']),
  });
  judged += report.verdicts.length;
  failed += show(nodes, report);
}
process.stdout.write(`${judged - failed} passed, ${failed} failed\n`);
process.exitCode = failed === 0 ? 0 : 1;
