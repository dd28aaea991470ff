// Watches of users whose right to read ends while they watch, on simulated clusters: what the client
// hears, how soon, and that nothing is told after it.

import { expect } from 'chai';
import {
  ClientError,
  type KvdClient,
  type NewToken,
  type WatchEvent,
} from '../../cli/client/kvd-client.ts';
import { createCluster, type SimulatedCluster } from '../../cli/embedded/sim-cluster.ts';

/** A watch that is read on and on in the background. */
class Watching {
  readonly keys: string[] = [];
  /** The code of the error that ended it, once it has ended. */
  readonly ended: Promise<string>;
  code: string | undefined;
  readonly #events: AsyncGenerator<WatchEvent>;

  private constructor(events: AsyncGenerator<WatchEvent>) {
    this.#events = events;
    this.ended = this.#read();
  }

  static async begin(client: KvdClient): Promise<Watching> {
    const events = client.watch();
    const { value } = (await events.next()) as IteratorResult<WatchEvent, undefined>;
    expect(value?.type).to.equal('ready');
    return new Watching(events);
  }

  async #read(): Promise<string> {
    try {
      for await (const event of this.#events) if ('key' in event) this.keys.push(event.key);
      this.code = 'none';
    } catch (error) {
      if (!(error instanceof ClientError)) throw error;
      this.code = error.code;
    }
    return this.code;
  }
}

describe('security: watches of users', function () {
  this.timeout(60_000);
  let cluster: SimulatedCluster;
  let root: KvdClient;
  let ada: NewToken;
  afterEach(() => cluster.stop());

  async function start(
    seed: number,
    nodes = 3,
    expiresSeconds?: number,
    settings: Readonly<Record<string, number>> = {},
  ): Promise<void> {
    cluster = await createCluster({ seed, nodes, hasUsers: true, settings });
    root = cluster.client;
    await root.namespaces.create('a');
    const expires = expiresSeconds === undefined ? {} : { expiresSeconds };
    ({ token: ada } = await root.users.create('ada', { roles: { a: 'write' }, ...expires }));
  }

  /** One at each node: a client goes from one to the next. */
  async function watchEverywhere(): Promise<readonly Watching[]> {
    const client = (await cluster.connect(ada.token)).inNamespace('a');
    const watches: Watching[] = [];
    while (watches.length < cluster.nodes.length) watches.push(await Watching.begin(client));
    return watches;
  }
  const watchSomewhere = async (): Promise<Watching> =>
    Watching.begin((await cluster.connect(ada.token)).inNamespace('a'));
  const put = (key: string): Promise<unknown> => root.inNamespace('a').put(key, 1);

  for (const [what, change, code] of [
    ['his token is revoked', () => root.users.revoke('ada', ada.id), 'UNAUTHORIZED'],
    ['he is disabled', () => root.users.alter('ada', { disabled: true }), 'UNAUTHORIZED'],
    ['he is deleted', () => root.users.delete('ada'), 'UNAUTHORIZED'],
    ['his role is taken away', () => root.users.alter('ada', { roles: { a: null } }), 'FORBIDDEN'],
    ['the namespace is dropped', () => root.namespaces.drop('a'), 'FORBIDDEN'],
  ] as const)
    it(`watch rights: when ${what}, his watch at any node ends with ${code} as soon as that is answered`, async () => {
      await start(41);
      const watches = await watchEverywhere();
      await put('before');
      await cluster.sleep(1_000);
      await change();
      // The last event is on its way.
      await cluster.sleep(10);
      expect(watches.map((watch) => watch.code)).to.deep.equal([code, code, code]);
      expect(watches.map(({ keys }) => keys)).to.deep.equal(Array(3).fill(['before']));
    });

  it('watch rights: one user may take half of the watches of a node, and all users together all of them', async () => {
    await start(45, 1, undefined, { watchesMax: 3 });
    const { token: bob } = await root.users.create('bob', { roles: { a: 'read' } });
    const open: Watching[] = [];
    const openOf = async ({ token }: NewToken): Promise<string> => {
      try {
        const client = (await cluster.connect(token)).inNamespace('a');
        open.push(await Watching.begin(client));
        return 'open';
      } catch (error) {
        return (error as ClientError).message;
      }
    };
    expect([await openOf(ada), await openOf(ada)]).to.deep.equal(['open', 'open']);
    expect(await openOf(ada))
      .to.contain('OVERLOADED')
      .and.to.contain('this user has 2');
    expect(await openOf(bob)).to.equal('open');
    expect(await openOf(bob))
      .to.contain('OVERLOADED')
      .and.to.contain('this node has 3');
    await root.users.delete('ada');
    await Promise.all(open.slice(0, 2).map(({ ended }) => ended));
    expect(await openOf(bob)).to.equal('open');
  });

  it('watch rights: an administrator hears that the namespace is gone', async () => {
    await start(42, 1);
    const events = root.inNamespace('a');
    const watching = await Watching.begin(events);
    await root.namespaces.drop('a');
    expect(await watching.ended).to.equal('NO_SUCH_NAMESPACE');
  });

  it('watch rights: a watch goes on when others lose theirs, and when a role becomes a smaller one', async () => {
    await start(43);
    const second = await root.users.addToken('ada');
    const { token: bob } = await root.users.create('bob', { roles: { a: 'read' } });
    const watching = await watchSomewhere();
    await root.users.revoke('ada', second.id);
    await root.users.revoke('bob', bob.id);
    await root.users.delete('bob');
    await root.users.alter('ada', { roles: { a: 'read' } });
    await root.namespaces.create('b');
    await root.namespaces.drop('b');
    await put('after');
    await cluster.sleep(5_000);
    expect([watching.keys, watching.code]).to.deep.equal([['after'], undefined]);
  });

  it('watch rights: nothing that came after is told to a reader who was busy', async () => {
    await start(44);
    const events = (await cluster.connect(ada.token)).inNamespace('a').watch();
    expect((await events.next()).value).to.include({ type: 'ready' });
    await root.users.revoke('ada', ada.id);
    await put('after');
    await cluster.sleep(1_000);
    const code = await events.next().then(
      ({ value }) => JSON.stringify(value),
      (error: unknown) => (error as ClientError).code,
    );
    expect(code).to.equal('UNAUTHORIZED');
  });

  it('watch rights: a token that expires ends a watch within half a second (expires=30 s)', async () => {
    await start(45, 1, 30);
    const beganMs = cluster.nowMs;
    const watching = await watchSomewhere();
    expect(await watching.ended).to.equal('UNAUTHORIZED');
    expect(cluster.nowMs - beganMs).to.be.within(29_000, 30_500);
  });

  it('watch rights: at a node that was cut off it ends when that node hears of it', async () => {
    await start(46);
    const watches = await watchEverywhere();
    const ended = (): number => watches.filter(({ code }) => code === 'UNAUTHORIZED').length;
    cluster.partition(['n3'], ['n1', 'n2']);
    await cluster.sleep(5_000);
    await root.users.revoke('ada', ada.id);
    await cluster.sleep(1_000);
    expect(ended()).to.equal(2);
    expect(watches.filter(({ code }) => code === undefined)).to.have.length(1);
    cluster.heal();
    // Gossip says it within a few rounds of a second.
    await cluster.sleep(10_000);
    expect(ended()).to.equal(3);
  });

  it('watch rights: the same seed gives the same run', async () => {
    const play = async (): Promise<string> => {
      await start(47);
      const watching = await watchSomewhere();
      await root.users.revoke('ada', ada.id);
      await watching.ended;
      const { trace } = cluster;
      cluster.stop();
      return trace;
    };
    expect(await play()).to.equal(await play());
  });
});
