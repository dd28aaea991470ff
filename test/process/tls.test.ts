// Two real nodes with certificates of one authority, as `kvd certs` and `kvd` make and take them:
// clients with a certificate are served through either, others are not, and files that are renewed
// are used without a restart.

import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { createAuthority, issueCertificate } from '../../cli/certs/authority.ts';
import { type ClientError, connect } from '../../cli/client/kvd-client.ts';
import { readTlsFiles, watchTlsFiles } from '../../cli/node/tls-files.ts';
import type { TlsMaterial } from '../../transport/tls.ts';
import { codeThrownBy } from '../kit.ts';
import { freePort } from '../kit-link-worker.ts';
import { realHost, until } from '../kit-transport.ts';
import { kvdPath } from './run-program.ts';

const hosts = ['127.0.0.1'];

describe('tls', function () {
  this.timeout(60_000);
  const dir = mkdtempSync(join(tmpdir(), 'kvd-tls-'));
  const children: ChildProcess[] = [];
  after(async () => {
    for (const child of children) {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGTERM');
      await ended;
    }
    rmSync(dir, { recursive: true, force: true });
  });

  const file = (name: string, text: string): string => {
    writeFileSync(join(dir, name), text, { mode: 0o600 });
    return join(dir, name);
  };

  function startNode(args: readonly string[]): Promise<void> {
    const child = spawn(process.execPath, [kvdPath, ...args]);
    children.push(child);
    let said = '';
    return new Promise((resolve, reject) => {
      child.stdout.on('data', (chunk: Buffer) => {
        said += chunk.toString();
        if (said.includes('node.ready')) resolve();
      });
      child.once('exit', () => reject(new Error(said)));
    });
  }

  it('tls: nodes and clients with certificates work together, others are refused', async () => {
    const authority = await createAuthority('shop', 10);
    const ca = file('ca.crt', authority.cert);
    const ports = await Promise.all(Array.from({ length: 4 }, () => freePort()));
    const [http1 = 0, http2 = 0, peer1 = 0, peer2 = 0] = ports;
    const seeds = `n1@127.0.0.1:${peer1},n2@127.0.0.1:${peer2}`;
    const start = async (node: string, http: number, peer: number): Promise<void> => {
      const { cert, key } = await issueCertificate(authority, { node, hosts }, 10);
      await startNode([
        ...['--node-id', node, '--cluster-name', 'shop', '--seeds', seeds, '--profile', 'single'],
        ...['--shards', '1', '--http-port', String(http), '--resp-port', 'off'],
        ...['--internode-port', String(peer), '--data-dir', join(dir, node)],
        ...['--tls-cert', file(`${node}.crt`, cert), '--tls-key', file(`${node}.key`, key)],
        ...['--tls-ca', ca, '--tls-client-auth', '--set', 'replicationFactor=2'],
      ]);
    };
    await Promise.all([start('n1', http1, peer1), start('n2', http2, peer2)]);
    const urls = [`https://127.0.0.1:${http1}`, `https://127.0.0.1:${http2}`];
    const own = await issueCertificate(authority, { client: 'ada' }, 10);
    const client = await connect(urls, {
      tls: { ...own, ca: authority.cert },
      hedgeAfterMs: 'off',
    });
    await client.put('a', { n: 1 }, { level: 'ALL' });
    expect((await client.get('a', { level: 'ALL' }))?.value).to.deep.equal({ n: 1 });
    client.close();
    const refused = (tls: object): Promise<string> =>
      connect(urls, { tls }).then(
        () => 'served',
        (error: unknown) => (error as ClientError).code,
      );
    expect(await refused({ ca: authority.cert })).to.equal('UNREACHABLE');
    expect(await refused({ ...own })).to.equal('UNREACHABLE');
    const other = await createAuthority('shop', 10);
    const strange = await issueCertificate(other, { client: 'ada' }, 10);
    expect(await refused({ ...strange, ca: authority.cert })).to.equal('UNREACHABLE');
  });

  it('tls: a key that everybody may read is refused, one of a group is not (SE-22)', async () => {
    const authority = await createAuthority('shop', 10);
    const { cert, key } = await issueCertificate(authority, { node: 'n1', hosts }, 10);
    const paths = {
      cert: file('m.crt', cert),
      key: file('m.key', key),
      ca: file('m-ca.crt', authority.cert),
    };
    for (const mode of [0o604, 0o602, 0o644]) {
      chmodSync(paths.key, mode);
      expect(() => readTlsFiles(paths, 'shop', 'n1')).to.throw(
        `${paths.key} may be read or written by others: chmod 600 ${paths.key} (field=tlsKey)`,
      );
    }
    for (const mode of [0o600, 0o640]) {
      chmodSync(paths.key, mode);
      expect(readTlsFiles(paths, 'shop', 'n1').key).to.equal(key);
    }
  });

  it('tls: renewed files are taken, files that do not fit are not', async () => {
    const authority = await createAuthority('shop', 10);
    const first = await issueCertificate(authority, { node: 'n1', hosts }, 10);
    const second = await issueCertificate(authority, { node: 'n1', hosts }, 20);
    const paths = {
      cert: file('r.crt', first.cert),
      key: file('r.key', first.key),
      ca: file('r-ca.crt', authority.cert),
    };
    const material = readTlsFiles(paths, 'shop', 'n1');
    expect(codeThrownBy(() => readTlsFiles(paths, 'shop', 'n2'))).to.equal('BAD_REQUEST');
    expect(codeThrownBy(() => readTlsFiles(paths, 'other', 'n1'))).to.equal('BAD_REQUEST');
    const renewed: TlsMaterial[] = [];
    const logged: Parameters<typeof realHost>[0] = [];
    const who = { clusterName: 'shop', node: 'n1', log: realHost(logged).log };
    const tls = { paths, material, requiresClientCertificate: true };
    const stop = watchTlsFiles(tls, who, (found) => void renewed.push(found), 10);
    try {
      file('r.crt', second.cert);
      await until(() => logged.some(({ event }) => event === 'tls.not-renewed'));
      expect(renewed).to.have.length(0);
      file('r.key', second.key);
      await until(() => renewed.length > 0);
      expect(renewed).to.deep.equal([{ ...second, ca: authority.cert }]);
    } finally {
      stop();
    }
  });
});
