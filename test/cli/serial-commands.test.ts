// kvctl cas and incr, and conditions of put and del, against the real gateway and against servers
// that lose answers.

import { expect } from 'chai';
import { startCluster, type TestCluster } from '../kit-gateway.ts';
import { type FakeServer, kvctl, ok, problem, startFake } from '../kit-kvctl.ts';

describe('kvctl serial', () => {
  let cluster: TestCluster;
  let args: readonly string[];
  const run = (...words: readonly string[]): ReturnType<typeof kvctl> => kvctl([...args, ...words]);
  const outcome = async (...words: readonly string[]): Promise<readonly [number, string]> => {
    const { code, text } = await run(...words);
    return [code, text];
  };

  beforeEach(async () => {
    cluster = await startCluster();
    args = ['--endpoint', `http://127.0.0.1:${cluster.port}`];
  });
  afterEach(async () => {
    await cluster.close();
  });

  it('kvctl serial: incr prints what the counter is then, also downwards and as JSON', async () => {
    expect(await outcome('incr', 'c')).to.deep.equal([0, '1\n']);
    expect(await outcome('incr', 'c', '41')).to.deep.equal([0, '42\n']);
    expect(await outcome('incr', 'c', '--', '-50')).to.deep.equal([0, '-8\n']);
    const shown = await run('incr', 'c', '-o', 'json');
    expect(JSON.parse(shown.text)).to.deep.equal({ key: 'c', value: -7, version: 4 });
  });

  it('kvctl serial: a delta that is no whole number is a usage error, a text value is refused', async () => {
    for (const delta of ['1.5', 'x', '99999999999999999', ''])
      expect((await run('incr', 'c', delta)).code, delta).to.equal(2);
    await run('put', 'c', 'text');
    const refused = await run('incr', 'c');
    expect([refused.code, refused.stderr.startsWith('kvctl: WRONG_TYPE')]).to.deep.equal([1, true]);
  });

  it('kvctl serial: cas by version, value and etag; exit code 1 where it is not met', async () => {
    expect(await outcome('cas', 'a', '1', '--if-version', '0')).to.deep.equal([
      0,
      'OK version 1\n',
    ]);
    expect(await outcome('cas', 'a', 'two', '--if-value', '1')).to.deep.equal([
      0,
      'OK version 2\n',
    ]);
    expect((await run('get', 'a')).text).to.equal('"two"\n');
    const unmet = await run('cas', 'a', '3', '--if-value', 'one');
    expect([unmet.code, unmet.stderr.startsWith('kvctl: CONFLICT')]).to.deep.equal([1, true]);
    const [request] = cluster.backend.serial.slice(-1);
    expect(request?.request.requestId).to.match(/^[0-9a-f-]{36}$/);
  });

  it('kvctl serial: cas wants exactly one expectation', async () => {
    expect((await run('cas', 'a', '1')).code).to.equal(2);
    expect((await run('cas', 'a', '1', '--if-version', '0', '--if-value', '1')).code).to.equal(2);
    expect((await run('cas', 'a', '1', '--if-version', '-1')).code).to.equal(2);
    expect(cluster.backend.serial).to.deep.equal([]);
  });

  it('kvctl serial: put and del under conditions', async () => {
    expect((await run('put', 'a', '1', '--if-exists')).code).to.equal(1);
    expect((await run('put', 'a', '1', '--if-not-exists')).code).to.equal(0);
    expect((await run('put', 'a', '2', '--if-not-exists')).code).to.equal(1);
    expect((await run('put', 'a', '2', '--if-match', 'a-b-c')).code).to.equal(1);
    expect((await run('put', 'a', '2', '--if-exists', '--if-not-exists')).code).to.equal(2);
    expect((await run('del', 'a', '--if-match', '1-2-3')).code).to.equal(1);
    expect((await run('del', 'a', '--if-exists')).code).to.equal(0);
    expect((await run('get', 'a', '--consistency', 'SERIAL')).code).to.equal(4);
  });

  it('kvctl serial: get and put at level SERIAL', async () => {
    await run('put', 'a', '1', '--consistency', 'SERIAL');
    expect((await run('get', 'a', '--consistency', 'SERIAL')).text).to.equal('1\n');
    const verbs = cluster.backend.serial.map(({ request }) => request.verb);
    expect(verbs).to.deep.equal(['write', 'read']);
    expect(cluster.backend.seen).to.deep.equal([]);
  });

  it('kvctl serial: with the same request id a write is done once, also by another run', async () => {
    const put = ['put', 'a', '1', '--if-not-exists', '--request-id', 'mine'];
    expect(await outcome(...put)).to.deep.equal([0, 'OK version 1\n']);
    expect(await outcome(...put)).to.deep.equal([0, 'OK version 1\n']);
    const level = ['--consistency', 'SERIAL', '--request-id', 'other'];
    expect(await outcome('put', 'a', '2', ...level)).to.deep.equal([0, 'OK version 2\n']);
    expect(await outcome('put', 'a', '2', ...level)).to.deep.equal([0, 'OK version 2\n']);
    expect((await run('put', 'a', '3', ...level)).stderr).to.contain('REQUEST_REUSED');
  });

  it('kvctl serial: after a lost answer the same request id is sent again (ID-2)', async () => {
    const answers = [problem(504, 'TIMEOUT'), ok({ key: 'c', value: 1, version: 1 })];
    const server: FakeServer = await startFake((_request, i) => answers[i]);
    try {
      const { code, text } = await kvctl(['incr', 'c', '--endpoint', server.url]);
      expect([code, text]).to.deep.equal([0, '1\n']);
      const ids = server.seen.map(({ headers }) => headers['x-request-id']);
      expect([ids.length, new Set(ids).size]).to.deep.equal([2, 1]);
    } finally {
      await server.close();
    }
  });
});
