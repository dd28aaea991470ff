// The example programs, each on a simulated cluster that loses messages or machines meanwhile.

import { expect } from 'chai';
import { createCluster, type SimulatedCluster } from '../../cli/embedded/sim-cluster.ts';
import { WatchedCache } from './cache.ts';
import { PageViews } from './counters.ts';
import { Candidate } from './leader-election.ts';
import { FencedRegister, Locks } from './lock.ts';
import { RateLimiter } from './rate-limiter.ts';
import { SessionStore } from './session-store.ts';

const range = (length: number): number[] => Array.from({ length }, (_, i) => i);

describe('examples', function () {
  this.timeout(30_000);
  let cluster: SimulatedCluster;
  const start = async (seed: number): Promise<SimulatedCluster['client']> => {
    cluster = await createCluster({ seed });
    return cluster.client;
  };
  afterEach(() => cluster.stop());

  it('example: sessions live on while they are used, and no change of one is lost', async () => {
    const sessions = new SessionStore<{ readonly cart: readonly number[] }>(await start(1), 60);
    const id = await sessions.create({ cart: [] });
    await Promise.all(
      range(8).map((item) => sessions.update(id, ({ cart }) => ({ cart: [...cart, item] }))),
    );
    expect([...((await sessions.read(id))?.cart ?? [])].sort()).to.deep.equal(range(8));
    await cluster.sleep(50_000);
    expect(await sessions.update(id, (data) => data)).to.equal(true);
    await cluster.sleep(50_000);
    expect(await sessions.read(id)).to.not.equal(undefined);
    await cluster.sleep(11_000);
    expect(await sessions.read(id)).to.equal(undefined);
    expect(await sessions.update(id, (data) => data)).to.equal(false);
  });

  it('example: the rate limiter lets exactly so many through, whoever asks and what dies', async () => {
    const kvd = await start(2);
    const nowMs = (): number => cluster.nowMs;
    const limiters = range(3).map(
      () => new RateLimiter(kvd, { limit: 10, windowSeconds: 600, nowMs }),
    );
    const asked = limiters.flatMap((limiter) => range(10).map(() => limiter.take('client')));
    cluster.nodes[0]?.kill();
    expect((await Promise.all(asked)).filter(Boolean).length).to.equal(10);
    await cluster.sleep(600_000);
    expect(await limiters[0]?.take('client')).to.equal(true);
  });

  it('example: a lock has one holder, and one who was late is fenced off', async () => {
    const locks = new Locks(await start(3), 10);
    const register = new FencedRegister();
    const leases = (await Promise.all(range(5).map(() => locks.acquire('job')))).flatMap(
      (lease) => lease ?? [],
    );
    expect(leases.length).to.equal(1);
    const [first] = leases;
    if (first === undefined) throw new Error('nobody holds it');
    expect(await locks.renew(first)).to.equal(true);
    await cluster.sleep(11_000);
    const second = await locks.acquire('job');
    expect(second?.fence).to.be.greaterThan(first.fence);
    expect(register.write(second?.fence ?? 0, 'of the second')).to.equal(true);
    expect(register.write(first.fence, 'of the first')).to.equal(false);
    expect([await locks.renew(first), await locks.release(first)]).to.deep.equal([false, false]);
    expect(second !== undefined && (await locks.release(second))).to.equal(true);
    expect(await locks.acquire('job')).to.not.equal(undefined);
  });

  it('example: there is one leader, and another one after it is gone, with a higher term', async () => {
    const kvd = await start(4);
    const candidates = ['a', 'b', 'c'].map((id) => new Candidate(kvd, id, 'g', 10));
    await Promise.all(candidates.map((candidate) => candidate.campaign()));
    const leaders = candidates.filter(({ leads }) => leads !== undefined);
    expect(leaders.length).to.equal(1);
    const [leader] = leaders;
    cluster.nodes[1]?.losePower();
    expect(await leader?.campaign()).to.equal(true);
    expect(await leader?.leader()).to.equal(leader?.id);
    const others = candidates.filter((candidate) => candidate !== leader);
    expect(await others[0]?.campaign()).to.equal(false);
    // It stops to renew.
    await cluster.sleep(11_000);
    expect(await others[0]?.campaign()).to.equal(true);
    expect(others[0]?.leads).to.be.greaterThan(leader?.leads ?? Infinity);
    expect(await leader?.campaign()).to.equal(false);
    await others[0]?.resign();
    expect(await others[1]?.campaign()).to.equal(true);
  });

  it('example: page views are counted exactly on a network that loses messages', async () => {
    const views = new PageViews(await start(5), 4);
    cluster.lose(0.03);
    await Promise.all(range(40).map(() => views.count('home')));
    cluster.heal();
    expect(await views.total('home')).to.equal(40);
    expect(await views.total('other')).to.equal(0);
  });

  it('example: the cache answers by itself and never keeps what was overwritten', async () => {
    const kvd = await start(6);
    const cache = new WatchedCache<number>(kvd, 'c/');
    await cluster.sleep(1000);
    await kvd.put('c/k', 1);
    await cluster.sleep(1000);
    expect([await cache.get('k'), await cache.get('k'), cache.hits]).to.deep.equal([1, 1, 1]);
    await kvd.put('c/k', 2);
    await cluster.sleep(1000);
    expect(await cache.get('k')).to.equal(2);
    await kvd.delete('c/k');
    cluster.nodes[2]?.losePower();
    await cluster.sleep(5000);
    expect(await cache.get('k')).to.equal(undefined);
    cache.close();
  });
});
