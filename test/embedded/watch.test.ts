// Watching keys on simulated clusters: what is told, what a gap leads to, and that nobody's memory
// grows with a slow reader.

import { expect } from 'chai';
import type { KvdClient, WatchEvent, WatchOptions } from '../../cli/client/kvd-client.ts';
import { createCluster, type SimulatedCluster } from '../../cli/embedded/sim-cluster.ts';

/** `put a=1`, `delete b`: an event in short. */
function short(event: WatchEvent): string {
  if (event.type === 'ready' || event.type === 'reset') return event.type;
  return event.type === 'put'
    ? `put ${event.key}=${JSON.stringify(event.value)}`
    : `${event.type} ${event.key}`;
}

class Reader {
  readonly events: WatchEvent[] = [];
  readonly #watch: AsyncGenerator<WatchEvent>;

  constructor(client: KvdClient, options: WatchOptions = {}) {
    this.#watch = client.watch(options);
  }

  /** Reads until an event is `last`; all so far in short. */
  async until(last: string): Promise<string[]> {
    for (;;) {
      const next = await this.#watch.next();
      if (next.done === true) throw new Error('the watch has ended');
      this.events.push(next.value);
      if (short(next.value) === last) return this.events.map(short);
    }
  }

  get lastId(): string {
    return this.events.at(-1)?.id ?? '';
  }

  async close(): Promise<void> {
    await this.#watch.return(undefined);
  }
}

describe('watch', function () {
  this.timeout(20_000);
  let cluster: SimulatedCluster;
  let client: KvdClient;
  const start = async (seed: number, settings: Record<string, number> = {}): Promise<void> => {
    cluster = await createCluster({ seed, settings });
    ({ client } = cluster);
  };
  afterEach(() => cluster.stop());

  it('watch: puts, deletes and expiries of a prefix are told once, in the order of each key', async () => {
    await start(1);
    const reader = new Reader(client, { prefix: 'a/' });
    expect(await reader.until('ready')).to.deep.equal(['ready']);
    await client.put('a/1', { n: 1 });
    await client.put('b/1', 'not told');
    await client.put('a/2', 'brief', { ttlSeconds: 2 });
    await client.put('a/1', 2);
    await client.delete('a/1');
    await client.incr('a/3', 7);
    expect(await reader.until('expire a/2')).to.deep.equal([
      'ready',
      'put a/1={"n":1}',
      'put a/2="brief"',
      'put a/1=2',
      'delete a/1',
      'put a/3=7',
      'expire a/2',
    ]);
    const [, first, brief] = reader.events;
    expect(first).to.include({ version: 1 });
    expect(brief?.type === 'put' && (brief.expiresAt ?? 0) - brief.timestamp).to.equal(2000);
    await reader.close();
  });

  it('watch: a value with line breaks, bytes and a missing value come as they are', async () => {
    await start(2);
    const reader = new Reader(client);
    const bare = new Reader(client, { values: false });
    await reader.until('ready');
    await bare.until('ready');
    await client.put('bytes', Uint8Array.from([10, 13, 0]));
    await client.put('text', 'a\nb');
    await client.put('end', 0);
    await reader.until('put end=0');
    const values = reader.events.flatMap((event) => (event.type === 'put' ? [event.value] : []));
    expect(values).to.deep.equal([Buffer.from([10, 13, 0]), 'a\nb', 0]);
    expect((await bare.until('put end=undefined')).length).to.equal(4);
    await reader.close();
    await bare.close();
  });

  it('watch: goes on after an event id, through another client, without what was told', async () => {
    await start(3);
    const reader = new Reader(client);
    await reader.until('ready');
    await client.put('k1', 1);
    await reader.until('put k1=1');
    await client.put('k2', 2);
    await reader.until('put k2=2');
    const after = reader.lastId;
    await reader.close();
    await client.put('k3', 3);
    await client.delete('k2');
    const second = new Reader(client, { after });
    const seen = await second.until('delete k2');
    expect(seen[0]).to.equal('ready');
    expect(seen).to.include('put k3=3');
    expect(seen).to.not.include('reset');
    await second.close();
  });

  it('watch: a node that loses its power leaves no gap, also when it comes back', async () => {
    await start(4);
    const reader = new Reader(client);
    await reader.until('ready');
    for (let i = 0; i < 10; i += 1) await client.put(`before${i}`, i);
    cluster.nodes[2]?.losePower();
    for (let i = 0; i < 10; i += 1) await client.put(`while${i}`, i);
    await cluster.nodes[2]?.start();
    await cluster.settled();
    for (let i = 0; i < 10; i += 1) await client.put(`after${i}`, i);
    const seen = await reader.until('put after9=9');
    expect(seen.filter((event) => event === 'reset')).to.deep.equal([]);
    for (const phase of ['before', 'while', 'after'])
      for (let i = 0; i < 10; i += 1) expect(seen).to.include(`put ${phase}${i}=${i}`);
    await reader.close();
  });

  it('watch: two nodes that lose their feeds at once are a reset, and what follows is told', async () => {
    await start(5);
    const reader = new Reader(client);
    await reader.until('ready');
    for (const node of cluster.nodes) node.losePower();
    for (const node of cluster.nodes) await node.start();
    await cluster.settled();
    await reader.until('reset');
    await client.put('next', 1);
    expect((await reader.until('put next=1')).slice(-2)).to.deep.equal(['reset', 'put next=1']);
    await reader.close();
  });

  it('watch: a reader that stays behind the buffer of changes is reset', async () => {
    await start(6, { watchBufferBytes: 65_536 });
    const reader = new Reader(client);
    await reader.until('ready');
    const after = reader.lastId;
    await reader.close();
    for (let i = 0; i < 100; i += 1) await client.put(`k${i}`, 'x'.repeat(2000));
    const late = new Reader(client, { after });
    expect((await late.until('reset')).at(-1)).to.equal('reset');
    await late.close();
  });

  it('watch: an id of another prefix and a damaged one are refused', async () => {
    await start(7);
    const reader = new Reader(client, { prefix: 'a' });
    await reader.until('ready');
    for (const [options, code] of [
      [{ prefix: 'b', after: reader.lastId }, 'BAD_REQUEST'],
      [{ prefix: 'a', after: 'x' }, 'BAD_REQUEST'],
      [{ prefix: 'a', after: `${reader.lastId},%:` }, 'BAD_REQUEST'],
    ] as const) {
      const failure = await new Reader(client, options)
        .until('never')
        .catch((error: unknown) => error);
      expect(failure).to.have.property('code', code);
    }
    await reader.close();
  });

  it('watch: an abort ends it with its reason', async () => {
    await start(8);
    const controller = new AbortController();
    const reader = new Reader(client, { signal: controller.signal });
    await reader.until('ready');
    const ended = reader.until('never').catch((error: unknown) => error);
    controller.abort(new RangeError('enough'));
    expect(await ended).to.be.instanceOf(RangeError);
  });
});
