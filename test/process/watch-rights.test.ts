// The text of a watch whose user loses his right, over real processes and sockets: the last event
// says why, whichever node was asked to take the right away, also to a reader who was slow.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { connect, type KvdClient, type NewToken } from '../../cli/client/kvd-client.ts';
import { DevCluster } from './dev-cluster.ts';
import { kvdPath, runProgram } from './run-program.ts';

describe('process: watches of users', function () {
  this.timeout(120_000);
  const directory = mkdtempSync(join(tmpdir(), 'kvd-watch-rights-'));
  const sockets: Socket[] = [];
  let cluster: DevCluster;
  let root: KvdClient;

  before(async () => {
    const boot = join(directory, 'boot');
    const made = await runProgram(kvdPath, ['token', '--out', boot]);
    expect(made.code, made.stderr).to.equal(0);
    const auth = ['--auth', 'required', '--auth-bootstrap-token-file', boot];
    cluster = await DevCluster.start({ nodes: 2, extra: auth });
    const answer = await fetch(`${cluster.endpoints[0] ?? ''}/api/v1/admin/users`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${readFileSync(boot, 'utf8').trim()}`,
        'content-type': 'application/json',
      },
      body: '{"name":"root","admin":true}',
    });
    const { token } = (await answer.json()) as { token: NewToken };
    root = await connect(cluster.endpoints, { token: token.token });
    await root.namespaces.create('a');
  });
  after(async () => {
    for (const socket of sockets) socket.destroy();
    root.close();
    await cluster.stop();
    cluster.remove();
    rmSync(directory, { recursive: true, force: true });
  });

  const userOf = async (name: string): Promise<NewToken> =>
    (await root.users.create(name, { roles: { a: 'read' } })).token;

  /** A watch that has begun: its socket, and all of its text once the node has ended it. */
  function watch(node: number, token: string): Promise<{ socket: Socket; text: Promise<string> }> {
    const { host, hostname, port } = new URL(cluster.endpoints[node] ?? '');
    const socket = createConnection(Number(port), hostname);
    sockets.push(socket);
    let text = '';
    socket.setEncoding('latin1');
    const all = new Promise<string>((resolve) => {
      // Once the answer ends; the connection may stay.
      socket.on('data', () => {
        if (text.endsWith('\r\n0\r\n\r\n')) resolve(text);
      });
      socket.on('close', () => resolve(text));
    });
    const path = '/api/v1/namespaces/a/watch?values=true';
    socket.write(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\nAuthorization: Bearer ${token}\r\n\r\n`);
    return new Promise((resolve, reject) => {
      socket.on('error', reject).prependListener('data', (chunk: string) => {
        const wasReady = text.includes('event: ready');
        text += chunk;
        if (!wasReady && text.includes('event: ready')) resolve({ socket, text: all });
      });
    });
  }

  const lastEvent = (text: string): { code: string; status: number; detail: string } => {
    // Then nothing but the end of the answer.
    const found = /event: end\ndata: (\{[^\n]*\})\n\n\r\n0\r\n\r\n$/.exec(text);
    expect(found, text.slice(-500)).to.not.equal(null);
    return JSON.parse(found?.[1] ?? '') as ReturnType<typeof lastEvent>;
  };

  it('process: a revoked token ends the watches at both nodes, and the last event says so', async () => {
    const { id, token } = await userOf('ada');
    const both = [await watch(0, token), await watch(1, token)];
    await root.users.revoke('ada', id);
    for (const { text } of both)
      expect(lastEvent(await text)).to.include({
        code: 'UNAUTHORIZED',
        status: 401,
        detail: 'the token is wrong, expired or revoked, or its user is disabled',
      });
  });

  it('process: a role that is taken away ends a watch, one of another user goes on', async () => {
    const bob = await userOf('bob');
    const cleo = await userOf('cleo');
    const [ending, other] = [await watch(1, bob.token), await watch(1, cleo.token)];
    await root.users.alter('bob', { roles: { a: null } });
    expect(lastEvent(await ending.text)).to.include({ code: 'FORBIDDEN', status: 403 });
    await root.users.delete('cleo');
    expect(lastEvent(await other.text)).to.include({ code: 'UNAUTHORIZED' });
  });

  it('process: a reader who was slow hears what was told before, then the end, and nothing after (values=40)', async () => {
    const { id, token } = await userOf('dan');
    const { socket, text } = await watch(0, token);
    socket.pause();
    const keys = root.inNamespace('a');
    for (let i = 0; i < 40; i += 1) await keys.put(`k${i % 4}`, 'x'.repeat(200_000));
    await root.users.revoke('dan', id);
    await keys.put('after', 1);
    socket.resume();
    const all = await text;
    expect(lastEvent(all).code).to.equal('UNAUTHORIZED');
    expect(all).to.contain('"key":"k0"').and.to.not.contain('"key":"after"');
  });
});
