// Watches over real sockets and threads: the text of the stream, nodes that go, readers that do not
// read.

import { createConnection } from 'node:net';
import { expect } from 'chai';
import type { WatchEvent } from '../../cli/client/kvd-client.ts';
import { createCluster, type EmbeddedCluster } from '../../cli/embedded/cluster.ts';

/** Reads the body of a stream until it holds `text`; all so far. */
async function readUntil(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  text: string,
): Promise<string> {
  const decoder = new TextDecoder();
  let all = '';
  while (!all.includes(text)) {
    const { value, done } = await reader.read();
    if (done) throw new Error(`the stream ended after ${all}`);
    all += decoder.decode(value, { stream: true });
  }
  return all;
}

const range = (length: number): number[] => Array.from({ length }, (_, i) => i);
const idsIn = (text: string): string[] => [...text.matchAll(/^id: (.*)$/gm)].map((m) => m[1] ?? '');

describe('watch over sockets', function () {
  this.timeout(60_000);
  let cluster: EmbeddedCluster;
  const start = async (options: object = {}): Promise<void> => {
    cluster = await createCluster(options);
  };
  const open = async (node: number, query = '', headers = {}): Promise<Response> =>
    fetch(`${cluster.endpoints[node] ?? ''}/api/v1/watch${query}`, { headers });
  const readerOf = (answer: Response): ReadableStreamDefaultReader<Uint8Array> => {
    if (answer.body === null) throw new Error('no body');
    return answer.body.getReader();
  };
  afterEach(() => cluster.stop());

  it('watch: server-sent events as text, resumed at another node by header or query', async () => {
    await start();
    const { client } = cluster;
    const answer = await open(0, '?prefix=p');
    expect([answer.status, answer.headers.get('content-type')]).to.deep.equal([
      200,
      'text/event-stream',
    ]);
    const reader = readerOf(answer);
    const ready = await readUntil(reader, 'event: ready\ndata: {}\n\n');
    expect(idsIn(ready).length).to.equal(1);
    await client.put('q', 'not of the prefix');
    await client.put('p', [1]);
    const put = await readUntil(reader, 'event: put');
    expect(put).to.match(/data: \{"key":"p","etag":"[0-9a-z-]+","value":\[1\],"version":1,/);
    await reader.cancel();
    await client.delete('p');
    const [id = ''] = idsIn(put);
    for (const [query, headers] of [
      ['?prefix=p', { 'last-event-id': id }],
      [`?prefix=p&last_event_id=${encodeURIComponent(id)}`, {}],
    ] as const) {
      const again = readerOf(await open(1, query, headers));
      const seen = await readUntil(again, 'event: delete');
      expect(seen).to.not.include('event: reset');
      await again.cancel();
    }
    const refused = await open(2, '?prefix=other', { 'last-event-id': id });
    expect([refused.status, ((await refused.json()) as { code: string }).code]).to.deep.equal([
      400,
      'BAD_REQUEST',
    ]);
  });

  it('watch: whichever node is killed and comes back, the watch goes on and nothing is missing', async () => {
    await start();
    const { client, nodes } = cluster;
    for (const node of nodes) {
      const seen: WatchEvent[] = [];
      let onReady: (() => void) | undefined;
      const isReady = new Promise<void>((resolve) => {
        onReady = resolve;
      });
      const watching = (async () => {
        for await (const event of client.watch({ prefix: node.id })) {
          seen.push(event);
          onReady?.();
          if (event.type === 'put' && event.key.endsWith('last')) return;
        }
      })();
      await isReady;
      const keys = ['up', 'down'].flatMap((phase) =>
        range(20).map((i) => `${node.id}-${phase}-${i}`),
      );
      for (const key of keys.slice(0, 20)) await client.put(key, 1);
      await node.kill();
      for (const key of keys.slice(20)) await client.put(key, 1);
      await node.start();
      await cluster.settled();
      await client.put(`${node.id}-last`, 1);
      await watching;
      const told = seen.flatMap((event) => (event.type === 'put' ? [event.key] : []));
      expect(seen.filter(({ type }) => type === 'reset')).to.deep.equal([]);
      expect(told.sort()).to.deep.equal([...keys, `${node.id}-last`].sort());
    }
  });

  it('watch: a reader that does not read costs a node no more than its buffer, and is reset', async () => {
    await start({ nodes: 1, durability: 'none', settings: { watchBufferBytes: 1024 * 1024 } });
    const { client } = cluster;
    const { host, hostname, port } = new URL(cluster.endpoints[0] ?? '');
    const socket = createConnection(Number(port), hostname);
    let text = '';
    let onReset: (() => void) | undefined;
    socket.setEncoding('latin1').on('data', (chunk: string) => {
      text += chunk;
      if (/event: ready/.test(text)) socket.emit('ready-event');
      if (/event: reset/.test(text)) onReset?.();
      // A name may be cut between two chunks.
      text = text.slice(-20);
    });
    const isReady = new Promise((resolve) => {
      socket.once('ready-event', resolve);
    });
    socket.write(`GET /api/v1/watch HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    await isReady;
    socket.pause();
    const value = 'x'.repeat(200_000);
    for (let i = 0; i < 150; i += 1) await client.put(`k${i % 8}`, value);
    const metrics = await (await fetch(`${cluster.endpoints[0] ?? ''}/metrics`)).text();
    const held = Number(/^kvd_watch_feed_bytes\S* (\d+)$/m.exec(metrics)?.[1]);
    expect(held).to.be.within(1, 1024 * 1024);
    const isReset = new Promise<void>((resolve) => {
      onReset = resolve;
    });
    socket.resume();
    await isReset;
    socket.destroy();
  });

  it('watch: a node that stops ends its watches, and more than it takes are refused', async () => {
    await start({ nodes: 1 });
    const open64 = await Promise.all(range(64).map(() => open(0)));
    expect(open64.map(({ status }) => status)).to.deep.equal(range(64).map(() => 200));
    const refused = await open(0);
    expect([refused.status, ((await refused.json()) as { code: string }).code]).to.deep.equal([
      429,
      'OVERLOADED',
    ]);
    const texts = open64.map((answer) => answer.text());
    await cluster.nodes[0]?.stop();
    for (const text of await Promise.all(texts)) expect(text).to.include('event: ready');
  });
});
