// FLUSHDB and FLUSHALL through a socket: what they say, and write into the audit log, where they end
// before the last key is gone.

import { expect } from 'chai';
import { failure } from '../../runtime/errors.ts';
import { firstDocument } from '../../actors/model/namespaces.ts';
import { startCluster, type TestCluster } from '../kit-gateway.ts';
import { command, exchange, RawConnection } from '../kit-resp.ts';

describe('resp: flush', () => {
  let cluster: TestCluster;
  let connection: RawConnection;
  beforeEach(async () => {
    const access = { isRequired: false, operationsPerAddressMax: 0, document: firstDocument };
    cluster = await startCluster({ access });
    connection = new RawConnection(cluster.respPort);
  });
  afterEach(async () => {
    connection.close();
    await cluster.close();
  });

  /** `last` is behind them in byte order. */
  async function fill(count: number, last: string): Promise<void> {
    const names = Array.from({ length: count }, (_, i) => `k${String(i).padStart(4, '0')}`);
    const pairs = [...names, last].flatMap((name) => [name, 'v']);
    expect(await exchange(cluster.respPort, command('MSET', ...pairs))).to.equal('+OK\r\n');
    cluster.backend.seen.length = 0;
  }

  async function line(): Promise<string> {
    let said = '';
    while (!said.endsWith('\r\n')) said += await connection.take(1);
    return said;
  }

  const lastAudit = (): unknown => cluster.audit.at(-1);
  const audited = (act: string, outcome: string): object => ({
    ...{ user: '', address: '127.0.0.1', act, target: '', outcome },
  });

  async function flushUntilHeld(name: string): Promise<void> {
    connection.send(command(name));
    while (cluster.backend.held.length === 0) await new Promise((next) => setImmediate(next));
  }

  it('resp: a flush whose delete fails says how many keys are gone, and is audited', async () => {
    await fill(7, 'last');
    cluster.backend.hanging.add('last');
    await flushUntilHeld('FLUSHDB');
    cluster.backend.held[0]?.fail(failure('OVERLOADED'));
    const said = '-ERR UNKNOWN_OUTCOME 7 keys are gone, then OVERLOADED: again (gone=7)\r\n';
    expect(await line()).to.equal(said);
    expect(lastAudit()).to.deep.equal(audited('flushdb', 'UNKNOWN_OUTCOME'));
  });

  it('resp: a flush that cannot read its second page does not say that nothing happened', async () => {
    await fill(500, 'last');
    cluster.backend.hanging.add('k0499');
    await flushUntilHeld('FLUSHALL');
    cluster.backend.failing.set('n1', failure('UNAVAILABLE'));
    const etag = { hlc: 1, writer: 1, incarnation: 1, version: 1, expiresAt: 0 };
    const made = { existed: true, coordinator: 'n1', explanation: undefined };
    cluster.backend.held[0]?.resolve({ ...etag, ...made });
    const said = '-ERR UNKNOWN_OUTCOME 500 keys are gone, then UNAVAILABLE: again (gone=500)\r\n';
    expect(await line()).to.equal(said);
    expect(lastAudit()).to.deep.equal(audited('flushall', 'UNKNOWN_OUTCOME'));
  });

  it('resp: a flush that deletes nothing says why, and is audited too', async () => {
    await fill(3, 'last');
    cluster.backend.failing.set('n1', failure('UNAVAILABLE', { required: 2 }));
    const said = '-CLUSTERDOWN UNAVAILABLE Too few replicas are alive. (required=2)\r\n';
    expect(await connection.ask(said, 'FLUSHDB')).to.equal(said);
    expect(lastAudit()).to.deep.equal(audited('flushdb', 'UNAVAILABLE'));
  });

  it('resp: of several failures of one command the one with an unknown effect is told', async () => {
    for (const name of ['a', 'b']) cluster.backend.hanging.add(name);
    connection.send(command('DEL', 'a', 'b'));
    while (cluster.backend.held.length < 2) await new Promise((next) => setImmediate(next));
    cluster.backend.held[0]?.fail(failure('OVERLOADED'));
    cluster.backend.held[1]?.fail(failure('TIMEOUT'));
    const said = '-ERR TIMEOUT Not enough answers in time.\r\n';
    expect(await line()).to.equal(said);
  });
});
