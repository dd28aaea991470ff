// mocha's usual report, plus its counts in the file that KVD_TEST_COUNTS names: test/run.mjs adds
// up several runs.

import { appendFileSync } from 'node:fs';
import mocha from 'mocha';

class CountingReporter extends mocha.reporters.Spec {
  constructor(runner, options) {
    super(runner, options);
    runner.once(mocha.Runner.constants.EVENT_RUN_END, () => {
      const { passes, failures } = this.stats;
      const file = process.env.KVD_TEST_COUNTS;
      if (file !== undefined) appendFileSync(file, `${passes} ${failures}\n`);
    });
  }
}

export { CountingReporter as default };
