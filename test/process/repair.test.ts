// Repair over real processes: a node that was killed, and that nobody kept hints for, gets what it
// missed by one command.

import { expect } from 'chai';
import { DevCluster } from './dev-cluster.ts';
import { kvctlPath, type Ran, runProgram } from './run-program.ts';

const keyCount = 300;

interface Report {
  readonly sets_wanted: number;
  readonly sets: readonly { readonly outcome: string }[];
  readonly records_sent: number;
}

const kvctl = (args: readonly string[]): Promise<Ran> => runProgram(kvctlPath, args);

describe('process: repair', function () {
  this.timeout(180_000);
  let cluster: DevCluster;

  before(async () => {
    cluster = await DevCluster.start({ nodes: 3, extra: ['--set', 'hintWindowMs=0'] });
  });
  after(async () => {
    await cluster.stop();
    cluster.remove();
  });

  it('repair: a node that was away without hints is filled by one command (records=300)', async () => {
    cluster.kill('n3');
    for (let i = 0; i < keyCount; i += 1) {
      const url = `${cluster.endpoints[i % 2] ?? ''}/api/v1/keys/key-${i}`;
      const headers = { 'content-type': 'application/json' };
      const answer = await fetch(url, { method: 'PUT', headers, body: `{"value":${i}}` });
      expect(answer.status, await answer.text()).to.equal(200);
    }
    expect(await cluster.stop()).to.equal(1);
    await cluster.launch();
    const endpoint = ['--endpoint', cluster.endpoints[0] ?? ''];
    const first = await kvctl(['repair', '-q', '-o', 'json', ...endpoint]);
    expect(first.code, first.stderr).to.equal(0);
    const report = JSON.parse(first.stdout.toString()) as Report;
    expect(report.sets.map(({ outcome }) => outcome)).to.deep.equal(
      Array.from({ length: report.sets_wanted }, () => 'complete'),
    );
    expect(report.records_sent).to.equal(keyCount);
    const again = await kvctl(['repair', '-q', '-o', 'json', ...endpoint]);
    expect(
      (JSON.parse(again.stdout.toString()) as Report).records_sent,
      'nothing differs',
    ).to.equal(0);
    const status = await kvctl(['repair', 'status', ...endpoint]);
    expect(status.code).to.equal(0);
    expect(status.stdout.toString()).to.match(/n1 .*done/);
  });
});
