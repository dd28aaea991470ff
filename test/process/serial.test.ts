// Counters over real processes: many clients increment one key at all nodes, a node dies by kill -9
// and all of them die, and in the end every increment was counted once. An answer that was lost is
// asked for again with the same request id, at the next node (ID-2, ID-3).

import { expect } from 'chai';
import { DevCluster } from './dev-cluster.ts';

const clients = 16;
const turns = 30;

interface Answer {
  readonly status: number;
  readonly value: number;
  /** Who ran it: the primary of the key. */
  readonly coordinator: string;
}

describe('process: serial operations', function () {
  this.timeout(180_000);
  let cluster: DevCluster;

  before(async () => {
    cluster = await DevCluster.start({ nodes: 3, extra: ['--set', 'deadAfterMs=2000'] });
  });
  after(async () => {
    await cluster.stop();
    cluster.remove();
  });

  async function increment(endpoint: string, id: string): Promise<Answer> {
    try {
      const answer = await fetch(`${endpoint}/api/v1/keys/counter/incr`, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          'x-request-id': id,
          'x-deadline-ms': '3000',
        },
        body: '{}',
      });
      const { value = 0 } = (await answer.json()) as { value?: number };
      const coordinator = answer.headers.get('x-coordinator') ?? '';
      return { status: answer.status, value, coordinator };
    } catch {
      return { status: 0, value: 0, coordinator: '' };
    }
  }

  /** Each client's turns, one after the other; each is repeated until it has an answer. */
  async function runClients(
    round: string,
    onTurn: (done: number, coordinator: string) => void,
  ): Promise<number[]> {
    const results: number[] = [];
    const client = async (number: number): Promise<void> => {
      let at = number;
      for (let turn = 0; turn < turns; ) {
        const endpoint = cluster.endpoints[at % cluster.endpoints.length] ?? '';
        const answer = await increment(endpoint, `${round}-${number}-${turn}`);
        if (answer.status === 200) {
          results.push(answer.value);
          onTurn(results.length, answer.coordinator);
          turn += 1;
        } else {
          expect(answer.status, 'a definite refusal').to.be.oneOf([0, 429, 503, 504]);
          at += 1;
        }
      }
    };
    await Promise.all(Array.from({ length: clients }, (_, i) => client(i)));
    return results;
  }

  async function total(): Promise<number> {
    for (const endpoint of cluster.endpoints)
      try {
        const headers = { 'consistency-level': 'SERIAL' };
        const answer = await fetch(`${endpoint}/api/v1/keys/counter`, { headers });
        if (answer.status === 200) return ((await answer.json()) as { value: number }).value;
      } catch {
        continue;
      }
    throw new Error('no node answers');
  }

  it(`process: ${clients * turns} increments, their primary killed by -9: each is counted once (G11)`, async () => {
    let isKilled = false;
    const results = await runClients('first', (done, coordinator) => {
      if (isKilled || done < 100) return;
      isKilled = true;
      cluster.kill(coordinator);
    });
    expect(isKilled).to.equal(true);
    expect(new Set(results).size).to.equal(clients * turns);
    expect(await total()).to.equal(clients * turns);
  });

  it('process: after kill -9 of all nodes the count goes on where it was (G1, G3)', async () => {
    const before = await total();
    await cluster.killAll();
    await cluster.launch();
    expect(await total()).to.equal(before);
    const { status, value } = await increment(cluster.endpoints[1] ?? '', 'after-all');
    expect([status, value]).to.deep.equal([200, before + 1]);
  });
});
