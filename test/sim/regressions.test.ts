// Runs that once failed, each as the small decision list that was left of it (rule SW-6): they must
// pass now. A list says more than a seed: it goes on meaning the same when what seeds draw changes.

import { expect } from 'chai';
import type { Decisions } from '../../sim/decisions.ts';
import { runDecisions } from '../../sim/run-seed.ts';

interface Regression {
  /** What had gone wrong. */
  readonly what: string;
  readonly decisions: Decisions;
}

const quiet = { lossRatio: 0, replayRatio: 0, corruptRatio: 0, diskErrors: {} };

const regressions: readonly Regression[] = [
  {
    what: 'a store whose memtable was full of what waited for a stuck sync flushed nothing for ever',
    decisions: {
      seed: 38,
      seconds: 60,
      chaosMs: 12_000,
      calm: ['clocks', 'slow-tail', 'buggify', 'ties', 'queues'],
      schedule: {
        steady: quiet,
        events: [{ atMs: 100, kind: 'stuck-disk', node: 'n1', durationMs: 20_000, amount: 0 }],
      },
    },
  },
];

describe('sim regressions', () => {
  for (const { what, decisions } of regressions)
    it(`regressions: ${what} (seed=${decisions.seed})`, async () => {
      const { verdict, problems } = await runDecisions(decisions);
      expect(problems).to.deep.equal([]);
      expect(verdict).to.equal('passed');
    }).timeout(30_000);
});
