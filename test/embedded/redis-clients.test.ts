// Redis clients as users have them, against a cluster of real nodes: what a session store, a cache
// and a batch job do with it. ioredis and node-redis both open with RESP3; each is also run with 2.

import { createClient } from '@redis/client';
import { expect } from 'chai';
import { Redis } from 'ioredis';
import { createCluster, type EmbeddedCluster } from '../../cli/embedded/cluster.ts';

const mebibyte = 1024 * 1024;

async function rejected(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    return (error as Error).message;
  }
  return 'nothing was refused';
}

describe('redis clients', function () {
  this.timeout(60_000);
  let cluster: EmbeddedCluster;
  const urlOf = (node: number): string => cluster.nodes[node]?.redisUrl ?? '';

  before(async () => {
    cluster = await createCluster({
      nodes: 3,
      settings: { memtableBytes: 16 * mebibyte, walSegmentBytes: 64 * mebibyte },
    });
  });
  after(async () => {
    await cluster.stop();
  });

  for (const protocol of [2, 3] as const) {
    describe(`ioredis, RESP${protocol}`, () => {
      let client: Redis;
      let other: Redis;
      const options = { maxRetriesPerRequest: 0, protocol };

      before(() => {
        client = new Redis(urlOf(0), options);
        other = new Redis(urlOf(1), options);
      });
      after(async () => {
        await client.quit();
        other.disconnect();
      });

      it('redis clients: a session store: set with a time to live, touched, read elsewhere, gone', async () => {
        const key = `session:${protocol}`;
        const session = JSON.stringify({ user: 'ä', cart: [1, 2] });
        expect(await client.set(key, session, 'EX', 1800)).to.equal('OK');
        expect(await other.get(key)).to.equal(session);
        expect(await client.expire(key, 3600)).to.equal(1);
        expect(await other.ttl(key)).to.be.within(3590, 3600);
        expect(await other.getex(key, 'EX', 60)).to.equal(session);
        expect(await client.ttl(key)).to.be.within(50, 60);
        expect(await client.del(key)).to.equal(1);
        expect(await other.get(key)).to.equal(null);
        expect(await other.exists(key)).to.equal(0);
      });

      it('redis clients: a rate limiter and a lock hold over nodes, whoever asks first', async () => {
        const window = `rate:${protocol}`;
        const hits = Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? client : other));
        const counts = await Promise.all(hits.map((one) => one.incr(window)));
        expect([...counts].sort((a, b) => a - b)).to.deep.equal(hits.map((_, i) => i + 1));
        const set = await Promise.all(hits.map((one) => one.expire(window, 60, 'NX')));
        expect(set.filter((answer) => answer === 1)).to.have.length(1);
        const lock = `lock:${protocol}`;
        const won = await Promise.all(
          hits.map((one, i) => one.set(lock, `owner ${i}`, 'PX', 30_000, 'NX')),
        );
        const owner = won.indexOf('OK');
        expect(won.filter((answer) => answer === 'OK')).to.have.length(1);
        const release = (i: number): Promise<unknown> =>
          other.call('DELEX', lock, 'IFEQ', `owner ${i}`);
        expect(await release(owner + 1)).to.equal(0);
        expect(await release(owner)).to.equal(1);
        expect(await client.get(lock)).to.equal(null);
      });

      it('redis clients: a value is taken by one GETDEL of many', async () => {
        const key = `ticket:${protocol}`;
        await client.set(key, 'one');
        const taken = await Promise.all([client, other, client].map((one) => one.getdel(key)));
        expect(taken.filter((value) => value === 'one')).to.have.length(1);
      });

      it('redis clients: a cache entry expires by itself', async () => {
        const key = `cache:${protocol}`;
        expect(await client.psetex(key, 300, 'v')).to.equal('OK');
        expect(await client.pttl(key)).to.be.within(1, 300);
        while ((await client.pttl(key)) >= 0);
        expect(await client.get(key)).to.equal(null);
        expect(await client.ttl(key)).to.equal(-2);
      });

      it('redis clients: MSET and MGET of a batch, missing ones in their places', async () => {
        const pairs = Array.from({ length: 300 }, (_, i) => [`batch:${i}`, `value ${i}`]);
        expect(await client.mset(...pairs.flat())).to.equal('OK');
        const keys = pairs.map(([key = '']) => key);
        const expected = pairs.map(([, value]) => value ?? null);
        expect(await other.mget(...keys, 'batch:none')).to.deep.equal([...expected, null]);
        expect(await client.del(...keys)).to.equal(300);
      });

      it('redis clients: a pipeline of 10,000 commands', async () => {
        const pipeline = client.pipeline();
        for (let i = 0; i < 5000; i += 1) pipeline.set(`pipe:${i % 500}`, i).get(`pipe:${i % 500}`);
        const answers = (await pipeline.exec()) ?? [];
        expect(answers).to.have.length(10_000);
        answers.forEach(([error, answer], n) => {
          expect(error).to.equal(null);
          expect(answer).to.equal(n % 2 === 0 ? 'OK' : String((n - 1) / 2));
        });
      });

      it('redis clients: a value of 1 MiB is kept byte by byte, one byte more is refused', async () => {
        const value = Buffer.alloc(mebibyte, 'kvd\r\n\0\xff', 'latin1');
        expect(await client.set('big', value)).to.equal('OK');
        expect((await other.getBuffer('big'))?.equals(value)).to.equal(true);
        expect(await client.strlen('big')).to.equal(mebibyte);
        expect(await rejected(client.set('big', Buffer.alloc(mebibyte + 1)))).to.match(
          /^ERR TOO_LARGE/,
        );
        expect(await client.strlen('big')).to.equal(mebibyte);
      });

      it('redis clients: scanStream finds every key once', async () => {
        const keys = Array.from({ length: 120 }, (_, i) => `scan${protocol}:${i}`);
        await client.mset(...keys.flatMap((key) => [key, 'v']));
        const found: string[] = [];
        const stream = other.scanStream({ match: `scan${protocol}:*`, count: 50 });
        for await (const page of stream) found.push(...(page as string[]));
        expect(found.sort()).to.deep.equal(keys.sort());
      });

      it('redis clients: counters, conditions and locks are exact', async () => {
        const name = `counter-${protocol}`;
        const counts = await Promise.all(Array.from({ length: 50 }, () => client.incr(name)));
        expect(counts.sort((a, b) => a - b)).to.deep.equal(
          Array.from({ length: 50 }, (_, i) => i + 1),
        );
        const lock = `lock-${protocol}`;
        const taken = await Promise.all(
          Array.from({ length: 5 }, (_, i) => client.set(lock, String(i), 'PX', 60_000, 'NX')),
        );
        expect(taken.filter((one) => one === 'OK').length).to.equal(1);
        expect(await client.append(`text-${protocol}`, 'abc')).to.equal(3);
        expect(await client.decrby(name, 8)).to.equal(42);
      });

      it('redis clients: a transaction is one, and EXEC does nothing where a watched key has changed', async () => {
        const tag = `{shop${protocol}}`;
        await client.mset(`${tag}stock`, '5', `${tag}sold`, '0');
        const sale = await client.multi().decr(`${tag}stock`).incr(`${tag}sold`).exec();
        expect(sale).to.deep.equal([
          [null, 4],
          [null, 1],
        ]);
        const buyer = client.duplicate();
        await buyer.watch(`${tag}stock`);
        expect(await buyer.get(`${tag}stock`)).to.equal('4');
        // A plain write, at another node.
        await other.set(`${tag}stock`, '0');
        expect(await buyer.multi().set(`${tag}stock`, '3').exec()).to.equal(null);
        expect(await client.get(`${tag}stock`)).to.equal('0');
        await buyer.quit();
        const mixed = await client.multi().set(`${tag}sold`, 'many').incr(`${tag}sold`).exec();
        expect(mixed?.[0]).to.deep.equal([null, 'OK']);
        expect(mixed?.[1]?.[0]?.message).to.match(/^ERR value is not an integer/);
      });

      it('redis clients: money moves by watch, compute and set, and none is lost on the way', async () => {
        const [from, to] = [`{bank${protocol}}a`, `{bank${protocol}}b`];
        await client.mset(from, '1000', to, '0');
        const move = async (one: Redis, amount: number): Promise<void> => {
          for (;;) {
            await one.watch(from, to);
            const [a, b] = (await one.mget(from, to)).map(Number) as [number, number];
            const moved = await one
              .multi()
              .set(from, a - amount)
              .set(to, b + amount)
              .exec();
            if (moved !== null) return;
          }
        };
        const movers = [0, 1, 2].map((node) => new Redis(urlOf(node), options));
        await Promise.all(
          movers.map(async (one, i) => {
            for (let turn = 0; turn < 5; turn += 1) await move(one, 1 + i);
            one.disconnect();
          }),
        );
        expect(await other.mget(from, to)).to.deep.equal(['970', '30']);
      });

      it('redis clients: a rate limiter of one key counts and sets its window as one', async () => {
        const key = `hits${protocol}`;
        const hit = (): Promise<unknown> => client.multi().incr(key).expire(key, 60, 'NX').exec();
        const counts = (await Promise.all(Array.from({ length: 10 }, hit))) as [null, number][][];
        expect(
          counts.map(([counted]) => counted?.[1]).sort((a, b) => (a ?? 0) - (b ?? 0)),
        ).to.deep.equal(Array.from({ length: 10 }, (_, i) => i + 1));
        expect(await other.ttl(key)).to.be.within(50, 60);
      });

      it('redis clients: keys of two tags are refused, and the connection goes on', async () => {
        const refused = client.multi().set('{a}k', '1').set('{b}k', '1').exec();
        expect(await rejected(refused)).to.match(/^EXECABORT/);
        expect(await client.exists('{a}k', '{b}k')).to.equal(0);
        expect(await client.rename(`{bank${protocol}}a`, `{bank${protocol}}c`)).to.equal('OK');
        expect(await client.randomkey()).to.be.a('string');
        expect(await client.cluster('KEYSLOT', 'foo')).to.equal(12182);
      });

      it('redis clients: what is not there says so, and the connection goes on', async () => {
        expect(await rejected(client.call('DEBUG', 'SLEEP', '1'))).to.match(
          /^ERR not implemented: DEBUG/,
        );
        expect(await rejected(client.hset('h', 'f', 'v'))).to.match(/^ERR unknown command 'hset'/);
        expect(await client.ping()).to.equal('PONG');
      });
    });

    describe(`node-redis, RESP${protocol}`, () => {
      const connectTo = (node: number): ReturnType<typeof createClient> =>
        createClient({ url: urlOf(node), RESP: protocol });
      let client: ReturnType<typeof createClient>;

      before(async () => {
        client = connectTo(2);
        client.on('error', () => undefined);
        await client.connect();
      });
      after(async () => {
        await client.close();
      });

      it('redis clients: values, time to live and batches', async () => {
        const key = `node-redis:${protocol}`;
        expect(await client.set(key, 'v', { expiration: { type: 'EX', value: 100 } })).to.equal(
          'OK',
        );
        expect(await client.get(key)).to.equal('v');
        expect(await client.ttl(key)).to.be.within(95, 100);
        expect(await client.persist(key)).to.equal(1);
        expect(await client.expireTime(key)).to.equal(-1);
        expect(await client.getDel(key)).to.equal('v');
        expect(await client.get(key)).to.equal(null);
        await client.mSet({ 'm:1': '1', 'm:2': '2' });
        expect(await client.mGet(['m:1', 'm:0', 'm:2'])).to.deep.equal(['1', null, '2']);
        expect(await client.type('m:1')).to.equal('string');
      });

      it('redis clients: commands at once are pipelined and answered in order', async () => {
        const answers = await Promise.all(
          Array.from({ length: 2000 }, (_, i) => client.echo(String(i))),
        );
        expect(answers).to.deep.equal(Array.from({ length: 2000 }, (_, i) => String(i)));
      });

      it('redis clients: scanIterator finds every key once', async () => {
        const keys = Array.from({ length: 60 }, (_, i) => `iter${protocol}:${i}`);
        await client.mSet(keys.map((key): [string, string] => [key, 'v']));
        const found: string[] = [];
        for await (const page of client.scanIterator({ MATCH: `iter${protocol}:*` }))
          found.push(...page);
        expect(found.sort()).to.deep.equal(keys.sort());
      });

      it('redis clients: transactions, watched keys and sessions', async () => {
        const [a, b] = [`{node-redis${protocol}}a`, `{node-redis${protocol}}b`];
        expect(
          await client.multi().set(a, '1').incr(a).copy(a, b).mGet([a, b]).exec(),
        ).to.deep.equal(['OK', 2, 1, ['2', '2']]);
        const watching = client.duplicate();
        await watching.connect();
        await watching.watch(a);
        await client.set(a, '7');
        let said = '';
        try {
          await watching.multi().set(b, 'lost').exec();
        } catch (error) {
          said = (error as Error).constructor.name;
        }
        expect(said).to.equal('WatchError');
        expect(await client.get(b)).to.equal('2');
        await watching.sendCommand(['KV.CONSISTENCY', 'SESSION']);
        for (let i = 0; i < 20; i += 1) {
          await watching.set(b, String(i));
          expect(await watching.get(b)).to.equal(String(i));
        }
        const explained = await client.sendCommand<string>(['KV.EXPLAIN', b]);
        expect(JSON.parse(explained)).to.have.property('steps');
        await watching.close();
      });

      it('redis clients: figures, names and levels', async () => {
        expect(await client.sendCommand(['KV.CONSISTENCY', 'ONE'])).to.equal('OK');
        expect(await client.clientSetName('me')).to.equal('OK');
        expect(await client.clientGetName()).to.equal('me');
        expect(await client.info('server')).to.include('redis_version:');
        expect((await client.clientInfo()).name).to.equal('me');
        expect(await client.configGet('save')).to.deep.include({ save: '' });
      });
    });
  }

  // Last: suites run in their order, tests of this one before them.
  describe('faults', () => {
    it('redis clients: a node that ends is left in peace, another one goes on', async () => {
      const first = new Redis(urlOf(0), { maxRetriesPerRequest: 0, retryStrategy: () => null });
      const second = new Redis(urlOf(1), { maxRetriesPerRequest: 0 });
      await first.set('survivor', 'v');
      await cluster.nodes[0]?.kill();
      expect(await second.get('survivor')).to.equal('v');
      expect(await second.set('survivor', 'w')).to.equal('OK');
      expect(await rejected(first.get('survivor'))).not.to.equal('nothing was refused');
      first.disconnect();
      second.disconnect();
    });
  });
});
