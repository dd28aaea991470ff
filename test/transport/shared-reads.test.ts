// Reads into one array for all sockets of a thread: each chunk is its reader's own, order and ends are as
// ever, a paused socket is not read, and what has no such reads falls back to 'data' events.

import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, Socket } from 'node:net';
import { expect } from 'chai';
import { readShared } from '../../transport/shared-reads.ts';

interface Accepted {
  readonly socket: Socket;
  readonly chunks: Uint8Array[];
  readonly isShared: boolean;
  /** Resolves once so many bytes have come. */
  readonly received: (bytes: number) => Promise<void>;
}

describe('shared reads', () => {
  let server: Server;
  let accepted: Accepted[] = [];
  const sockets: Socket[] = [];

  beforeEach(async () => {
    accepted = [];
    server = createServer({ allowHalfOpen: true }, (socket) => accepted.push(accept(socket)));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  afterEach(async () => {
    for (const socket of [...sockets.splice(0), ...accepted.map((each) => each.socket)])
      socket.destroy();
    server.close();
    await once(server, 'close');
  });

  function accept(socket: Socket): Accepted {
    const chunks: Uint8Array[] = [];
    let changed = (): void => undefined;
    const isShared = readShared(socket, (bytes) => {
      chunks.push(bytes);
      changed();
    });
    const received = async (bytes: number): Promise<void> => {
      while (total(chunks) < bytes)
        await new Promise<void>((resolve) => {
          changed = resolve;
        });
    };
    return { socket, chunks, isShared, received };
  }

  async function dial(): Promise<Socket> {
    const { port } = server.address() as AddressInfo;
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    sockets.push(socket);
    const known = accepted.length;
    await once(socket, 'connect');
    if (accepted.length === known) await once(server, 'connection');
    return socket;
  }

  const total = (chunks: readonly Uint8Array[]): number =>
    chunks.reduce((sum, { length }) => sum + length, 0);

  it('shared reads: this version of Node has them, and they are complete and in order', async () => {
    const client = await dial();
    const sent = Buffer.from(Uint8Array.from({ length: 300_000 }, (_, i) => (i * 31) >> 3));
    client.write(sent);
    const [first] = accepted;
    expect(first?.isShared).to.equal(true);
    await first?.received(sent.length);
    expect(Buffer.concat(first?.chunks ?? []).equals(sent)).to.equal(true);
  });

  it('shared reads: what one socket has read stays as it was when another one reads', async () => {
    const [one, two] = [await dial(), await dial()];
    one.write('a'.repeat(100));
    await accepted[0]?.received(100);
    two.write('b'.repeat(100));
    await accepted[1]?.received(100);
    one.write('c'.repeat(50));
    await accepted[0]?.received(150);
    const texts = accepted.map(({ chunks }) => Buffer.concat(chunks).toString());
    expect(texts).to.deep.equal([`${'a'.repeat(100)}${'c'.repeat(50)}`, 'b'.repeat(100)]);
    for (const { chunks } of accepted)
      for (const chunk of chunks) {
        // No Buffer, and no more memory than its bytes: whoever keeps it counts it by its length.
        expect(chunk.constructor).to.equal(Uint8Array);
        expect(chunk.buffer.byteLength).to.equal(chunk.length);
      }
  });

  it('shared reads: the end of the other side is told after its last bytes', async () => {
    const client = await dial();
    const [first] = accepted;
    const ended = once(first?.socket as Socket, 'end');
    client.end('last');
    await ended;
    expect(Buffer.concat(first?.chunks ?? []).toString()).to.equal('last');
    first?.socket.end('answer');
    const [answer] = (await once(client, 'data')) as [Buffer];
    expect(answer.toString()).to.equal('answer');
  });

  it('shared reads: a paused socket is not read until it resumes', async () => {
    const [client, other] = [await dial(), await dial()];
    const [first, second] = accepted;
    first?.socket.pause();
    client.write('held');
    // Comes after it, and is read: the first one could have been.
    other.write('read');
    await second?.received(4);
    expect(first?.chunks).to.deep.equal([]);
    first?.socket.resume();
    await first?.received(4);
    expect(Buffer.concat(first?.chunks ?? []).toString()).to.equal('held');
  });

  it('shared reads: a socket that has none is read by its events', () => {
    const socket = new Socket();
    const chunks: Uint8Array[] = [];
    expect(readShared(socket, (bytes) => chunks.push(bytes))).to.equal(false);
    socket.emit('data', Buffer.from('x'));
    expect(chunks.map((chunk) => [...chunk])).to.deep.equal([[0x78]]);
    expect(chunks[0]?.constructor).to.equal(Uint8Array);
    socket.destroy();
  });
});
