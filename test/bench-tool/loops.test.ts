// The closed loops of the benches: each protocol against a server that counts what it hears.

import { expect } from 'chai';
import { createServer as createHttp, type ServerResponse } from 'node:http';
import { createServer as createHttp2, type ServerHttp2Stream } from 'node:http2';
import { createServer as createTcp, type AddressInfo, type Server, type Socket } from 'node:net';
import { closedLoop, type LoadResult } from '../bench/closed-loop.ts';
import { bytesField, grpcLoad, prepareCall, trueField } from '../bench/grpc-load.ts';
import { getRequest, httpLoad } from '../bench/http-load.ts';
import { pipelines, respConversation, respLoad } from '../bench/resp-load.ts';

async function withServer<T>(server: Server, work: (port: number) => Promise<T>): Promise<T> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    return await work((server.address() as AddressInfo).port);
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
}

/** Answers a call with a message of so many bytes, or with none. */
function answerCall(stream: ServerHttp2Stream, messageBytes: number | undefined): void {
  if (messageBytes === undefined) {
    stream.respond({ ':status': 200, 'grpc-status': '14' }, { endStream: true });
    return;
  }
  stream.respond({ ':status': 200 }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
  const message = Buffer.alloc(5 + messageBytes);
  message.writeUInt32BE(messageBytes, 1);
  // In two pieces, as a server may.
  stream.write(message.subarray(0, 3));
  stream.end(message.subarray(3));
}

describe('bench: loops', () => {
  it('loops: gRPC calls arrive as they were prepared, and failed ones are counted', async () => {
    const heard: { path: unknown; type: unknown; body: Buffer }[] = [];
    const server = createHttp2();
    server.on('stream', (stream, headers) => {
      const chunks: Buffer[] = [];
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.on('end', () => {
        const count = heard.push({
          path: headers[':path'],
          type: headers['content-type'],
          body: Buffer.concat(chunks),
        });
        // Every tenth fails, every tenth is too short, the others are long enough.
        answerCall(stream, count % 10 === 0 ? undefined : count % 10 === 5 ? 3 : 70_000);
      });
    });
    const message = Buffer.concat([bytesField(1, 'key'), trueField(7)]);
    const call = prepareCall({ path: '/a.KV/Range', message, answerBytesMin: 100 });
    const result = await withServer(server, (port) =>
      grpcLoad({ ports: [port], connections: 4, requests: 200, call: () => call }),
    );
    expect([result.done, result.errors]).to.deep.equal([200, 40]);
    expect(heard.length).to.equal(200);
    const body = Buffer.from([0, 0, 0, 0, 7, 0x0a, 3, 0x6b, 0x65, 0x79, 0x38, 1]);
    for (const one of heard)
      expect(one).to.deep.equal({ path: '/a.KV/Range', type: 'application/grpc', body });
  });

  it('loops: a gRPC server that goes away fails the load', async () => {
    const server = createHttp2();
    server.on('stream', (stream) => stream.session?.goaway());
    const call = prepareCall({ path: '/a/b', message: Buffer.alloc(0), answerBytesMin: 0 });
    const load = withServer(server, (port) =>
      grpcLoad({ ports: [port], connections: 1, requests: 1, call: () => call }),
    );
    expect(String(await load.catch((error: unknown) => error))).to.match(/GOAWAY|closed/);
  });

  it('loops: HTTP counts what is no 2xx', async () => {
    let count = 0;
    const server = createHttp((_, response: ServerResponse) => {
      count += 1;
      response.statusCode = count % 4 === 0 ? 503 : 200;
      response.end('{"some":"body"}');
    });
    const result = await withServer(server, (port) =>
      httpLoad({ port, connections: 3, requests: 40, request: () => getRequest('a') }),
    );
    expect([result.done, result.errors]).to.deep.equal([40, 10]);
  });

  /** Says hello to HELLO alone, and answers each other line with `answers`. */
  const respServer = (answers: (verb: string) => string, seen: string[]): Server =>
    createTcp((socket) =>
      socket.on('data', (chunk) => {
        for (const [, verb = ''] of chunk.toString().matchAll(/\$\d+\r\n([A-Z]+)\r\n/g)) {
          seen.push(verb);
          socket.write(answers(verb));
        }
      }),
    );

  it('loops: Redis pipelines count commands, after what opens the connection', async () => {
    const seen: string[] = [];
    const answers = (verb: string): string => (verb === 'BAD' ? '-ERR no\r\n' : '$3\r\nabc\r\n');
    const pipeline = pipelines(4, 2, (n) => (n % 8 === 7 ? ['BAD'] : ['GET', 'k']));
    const result = await withServer(respServer(answers, seen), (port) => {
      const options = { ports: [port], connections: 2, depth: 2, requests: 40, pipeline };
      return respLoad({ ...options, opening: ['HELLO'] });
    });
    expect([result.done, result.errors]).to.deep.equal([20, 5]);
    expect(seen.filter((verb) => verb === 'HELLO').length).to.equal(2);
    expect(seen.length).to.equal(42);
  });

  it('loops: connections are spread over the ports, and requests may have several answers', async () => {
    const seen: string[][] = [[], []];
    const answers = (): string => '+OK\r\n';
    const request = pipelines(1, 2, (n) => [n % 2 === 0 ? 'SET' : 'WAIT']);
    const load = (ports: readonly number[]): Promise<LoadResult> =>
      closedLoop({
        ...{ ports, connections: 2, requests: 30 },
        converse: () => respConversation(request, () => 2),
      });
    const result = await withServer(respServer(answers, seen[0] as string[]), (one) =>
      withServer(respServer(answers, seen[1] as string[]), (other) => load([one, other])),
    );
    expect(result.done).to.equal(30);
    expect(seen.flat().length).to.equal(60);
    for (const verbs of seen) expect(verbs.slice(0, 2)).to.deep.equal(['SET', 'WAIT']);
  });

  it('loops: a connection that breaks while others open is an error, not a wait', async () => {
    let first: Socket | undefined;
    const server = createTcp((socket) => {
      socket.on('error', () => undefined);
      socket.on('data', (chunk) => {
        if (first === undefined) {
          first = socket;
          socket.write('+OK\r\n');
          return;
        }
        // The second opening is answered when the first connection has gone.
        first.once('close', () => socket.write('+OK\r\n'));
        first.resetAndDestroy();
        expect(chunk.length).to.be.above(0);
      });
    });
    const pipeline = pipelines(1, 1, () => ['GET', 'k']);
    const load = withServer(server, (port) =>
      respLoad({ ports: [port], connections: 2, depth: 1, requests: 4, pipeline, opening: ['A'] }),
    );
    expect(String(await load.catch((error: unknown) => error))).to.contain('ECONNRESET');
  });

  it('loops: with a rate given, what waits for a slow connection is not late', async () => {
    let opened = 0;
    const server = createTcp((socket) => {
      socket.on('data', (chunk) => {
        if (!chunk.toString().includes('HELLO')) return socket.write('+OK\r\n');
        opened += 1;
        // The second one takes a second to open.
        if (opened === 1) socket.write('+OK\r\n');
        else setTimeout(() => socket.write('+OK\r\n'), 1_000);
      });
    });
    const pipeline = pipelines(1, 1, () => ['GET', 'k']);
    const common = { connections: 2, depth: 1, requests: 20, perSecond: 1_000, pipeline };
    const { done, p50Ms } = await withServer(server, (port) =>
      respLoad({ ...common, ports: [port], opening: ['HELLO'] }),
    );
    expect(done).to.equal(20);
    expect(p50Ms).to.be.below(900);
  });

  it('loops: what opens a connection must not be refused', async () => {
    const server = respServer(() => '-NOPE\r\n', []);
    const pipeline = pipelines(1, 1, () => ['GET', 'k']);
    const load = withServer(server, (port) =>
      respLoad({ ports: [port], connections: 1, depth: 1, requests: 1, pipeline, opening: ['A'] }),
    );
    expect(String(await load.catch((error: unknown) => error))).to.contain('was refused');
  });
});
