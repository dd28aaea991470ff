// The model test in short: every strategy with every codec. For long runs: npm run test:model.

import { expect } from 'chai';
import { codecNames, runModel } from './model-run.ts';
import { compactionStrategies } from '../../../actors/model/table-choices.ts';

const ops = 9_000;

describe('storage model', () => {
  for (const strategy of compactionStrategies)
    for (const codec of codecNames)
      it(`storage model: puts, deletes, batches, flushes, merges and crashes leave what a map holds (${strategy}, ${codec}, ops=${ops})`, async () => {
        const report = await runModel({ seed: 11, ops, strategy, codec, keyCount: 400 });
        expect(report.ops).to.be.at.least(ops);
        for (const name of [
          ...['written', 'flushes', 'merges', 'switches', 'crashes', 'unanswered'],
        ] as const)
          expect(report[name], name).to.be.greaterThan(0);
      }).timeout(60_000);
});
