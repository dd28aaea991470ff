// Runs kvctl inside the test process, and a server that answers what the test wants.

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable, Writable } from 'node:stream';
import { runKvctl } from '../cli/commands/program.ts';

export interface KvctlRun {
  readonly code: number;
  readonly stdout: Buffer;
  readonly text: string;
  readonly stderr: string;
}

class Sink extends Writable {
  readonly chunks: Buffer[] = [];

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.chunks.push(Buffer.from(chunk));
    done();
  }

  bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }
}

/** One run; `stdin` is what comes through the pipe. */
export async function kvctl(
  args: readonly string[],
  stdin: Uint8Array | string = '',
  env: Readonly<Record<string, string>> = {},
): Promise<KvctlRun> {
  const stdout = new Sink();
  const stderr = new Sink();
  const bytes = Buffer.from(stdin as string);
  const code = await runKvctl(args, { stdin: Readable.from([bytes]), stdout, stderr, env });
  const out = stdout.bytes();
  return { code, stdout: out, text: out.toString(), stderr: stderr.bytes().toString() };
}

export interface SeenRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

/** Undefined: the connection is cut without an answer; `never`: it hangs. */
export type Reply =
  | {
      readonly status: number;
      /** Bytes are sent as they are, anything else as JSON. */
      readonly body: unknown;
      readonly headers?: Readonly<Record<string, string>>;
    }
  | 'never'
  | undefined;

export interface FakeServer {
  readonly url: string;
  readonly seen: SeenRequest[];
  readonly close: () => Promise<void>;
}

/** Answers each request by `reply`, which gets its number, from 0. */
export async function startFake(
  reply: (request: SeenRequest, index: number) => Reply,
): Promise<FakeServer> {
  const seen: SeenRequest[] = [];
  const handle = (request: IncomingMessage, response: ServerResponse): void => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const { method = '', url = '', headers } = request;
      const one = { method, url, headers, body: Buffer.concat(chunks).toString() };
      seen.push(one);
      const answer = reply(one, seen.length - 1);
      if (answer === undefined) {
        request.socket.destroy();
        return;
      }
      if (answer === 'never') return;
      response.writeHead(answer.status, {
        'content-type': 'application/json',
        ...answer.headers,
      });
      const { body: sent } = answer;
      response.end(sent instanceof Uint8Array ? sent : JSON.stringify(sent));
    });
  };
  const server = createServer(handle);
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as AddressInfo;
  const close = async (): Promise<void> => {
    server.closeAllConnections();
    await new Promise((resolve) => {
      server.close(resolve);
    });
  };
  return { url: `http://127.0.0.1:${port}`, seen, close };
}

/** An endpoint where nobody listens. */
export async function deadEndpoint(): Promise<string> {
  const fake = await startFake(() => undefined);
  await fake.close();
  return fake.url;
}

export const problem = (status: number, code: string): Reply => ({
  status,
  body: { code, status, detail: `detail of ${code}` },
});

export const ok = (body: unknown): Reply => ({ status: 200, body });
