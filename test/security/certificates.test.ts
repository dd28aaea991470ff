// The private authority and what nodes make of its certificates: who may connect to whom. Tables of
// peers on 127.0.0.1 with real certificates; each test has its own ports.

import { X509Certificate } from 'node:crypto';
import { expect } from 'chai';
import { createAuthority, type Issued, issueCertificate } from '../../cli/certs/authority.ts';
import type { Envelope } from '../../runtime/envelope.ts';
import { type PeerTable } from '../../transport/peer-table.ts';
import { namesUri, type TlsMaterial } from '../../transport/tls.ts';
import { codeRejectedBy, type LogEntry } from '../kit.ts';
import { freePort, testPeers } from '../kit-link-worker.ts';
import { echoEnvelope, realHost, until } from '../kit-transport.ts';

const hosts = ['127.0.0.1'];

describe('certificates', () => {
  let authority: Issued;
  let stranger: Issued;
  const open: PeerTable[] = [];

  before(async () => {
    authority = await createAuthority('test', 10);
    stranger = await createAuthority('test', 10);
  });
  afterEach(async () => {
    await Promise.all(open.splice(0).map((table) => table.close()));
  });

  const material = (issued: Issued, ca = authority): TlsMaterial => ({ ...issued, ca: ca.cert });
  const forNode = async (node: string, ca = authority): Promise<TlsMaterial> =>
    material(await issueCertificate(ca, { node, hosts }, 10), authority);

  interface Ends {
    readonly arrived: Envelope[];
    readonly logged: LogEntry[];
    readonly send: () => boolean;
  }

  /** `a` dials `b` with these certificates; `send` sends where there is a connection. */
  async function connectEnds(a: TlsMaterial | undefined, b: TlsMaterial): Promise<Ends> {
    const ports = { a: await freePort(), b: await freePort() };
    const arrived: Envelope[] = [];
    const logged: LogEntry[] = [];
    const table = (node: 'a' | 'b', other: 'a' | 'b', tls: TlsMaterial | undefined): PeerTable => {
      const end = { node, port: ports[node], other: { node: other, port: ports[other] } };
      const made = testPeers(end, {
        host: realHost(logged),
        deliver: (envelope) => void arrived.push(envelope),
        linkLost: () => undefined,
        tls,
      });
      open.push(made);
      return made;
    };
    const dialling = table('a', 'b', a);
    await table('b', 'a', b).listen();
    const send = (): boolean =>
      dialling.linkTo('b', 0)?.send(echoEnvelope('note', { number: 1 })) ?? false;
    return { arrived, logged, send };
  }

  async function refusedBecause(a: TlsMaterial | undefined, b: TlsMaterial): Promise<string> {
    const { arrived, logged, send } = await connectEnds(a, b);
    send();
    await until(() => logged.some(({ event }) => event.startsWith('peer.')));
    expect(arrived).to.have.length(0);
    return logged.map(({ event, fields }) => `${event} ${JSON.stringify(fields)}`).join('\n');
  }

  it('certificates: the authority issues for its own cluster, names and usages as asked', async () => {
    const { cert, key } = await issueCertificate(
      authority,
      { node: 'n1', hosts: ['db', '::1'] },
      5,
    );
    const read = new X509Certificate(cert);
    expect(read.verify(new X509Certificate(authority.cert).publicKey)).to.equal(true);
    expect(read.checkIssued(new X509Certificate(authority.cert))).to.equal(true);
    expect(read.subjectAltName).to.equal(
      'URI:kvd://test/node/n1, DNS:db, IP Address:0:0:0:0:0:0:0:1',
    );
    expect(key).to.match(/^-----BEGIN PRIVATE KEY-----/);
    const client = await issueCertificate(authority, { client: 'ada' }, 5);
    const { subjectAltName, keyUsage } = new X509Certificate(client.cert);
    expect(subjectAltName).to.equal('URI:kvd://test/client/ada');
    expect(keyUsage).to.deep.equal(['1.3.6.1.5.5.7.3.2']);
  });

  it('certificates: names, hosts, days and authorities that cannot be are refused', async () => {
    const issue = (node: string, host: string, days = 1) =>
      issueCertificate(authority, { node, hosts: host === '' ? [] : [host] }, days);
    for (const attempt of [
      () => createAuthority('a/b', 1),
      () => createAuthority('', 1),
      () => createAuthority('x', 0),
      () => createAuthority('x', 1.5),
      () => issue('n/1', 'a'),
      () => issue('n'.repeat(65), 'a'),
      () => issue('n1', ''),
      () => issue('n1', 'a, URI:kvd://test/node/n2'),
      () => issueCertificate({ cert: 'none', key: authority.key }, { client: 'a' }, 1),
      () => issueCertificate({ cert: authority.cert, key: 'none' }, { client: 'a' }, 1),
    ])
      expect(await codeRejectedBy(attempt())).to.equal('BAD_REQUEST');
  });

  it('certificates: a name is matched whole, and never within quotes', () => {
    const uri = 'kvd://c/node/n1';
    expect(namesUri(`DNS:a, URI:${uri}`, uri)).to.equal(true);
    expect(namesUri(`URI:${uri}0`, uri)).to.equal(false);
    expect(namesUri(`DNS:${uri}`, uri)).to.equal(false);
    expect(namesUri(`DNS:"a, URI:${uri}, b"`, uri)).to.equal(false);
    expect(namesUri('', uri)).to.equal(false);
  });

  it('certificates: nodes with certificates of their authority talk', async () => {
    const { arrived, send } = await connectEnds(await forNode('a'), await forNode('b'));
    await until(() => send());
    await until(() => arrived.length > 0);
    expect(arrived[0]?.body).to.deep.equal({ number: 1 });
  });

  it('certificates: a node with the certificate of another node is refused by who it dials', async () => {
    const said = await refusedBecause(await forNode('c'), await forNode('b'));
    expect(said).to.contain('its certificate is not for node a of cluster test');
  });

  it('certificates: a node that answers with the certificate of another is refused by the dialler', async () => {
    const said = await refusedBecause(await forNode('a'), await forNode('c'));
    expect(said).to.contain('the certificate there is not for kvd://test/node/b');
  });

  it('certificates: a certificate of another authority of the same name is refused', async () => {
    const said = await refusedBecause(await forNode('a', stranger), await forNode('b'));
    expect(said).to.match(/peer\.connection-(failed|lost)/);
  });

  it('certificates: a certificate of another cluster is refused', async () => {
    const other = await createAuthority('other', 10);
    const a = await issueCertificate(other, { node: 'a', hosts }, 10);
    const both = { ...(await forNode('b')), ca: `${authority.cert}\n${other.cert}` };
    const said = await refusedBecause({ ...a, ca: both.ca }, both);
    expect(said).to.contain('its certificate is not for node a of cluster test');
  });

  it('certificates: the certificate of a client does not make a node', async () => {
    const client = material(await issueCertificate(authority, { client: 'a' }, 10));
    const said = await refusedBecause(client, await forNode('b'));
    expect(said).to.contain('its certificate is not for node a of cluster test');
  });

  it('certificates: a node without one cannot talk to a node with one', async () => {
    const said = await refusedBecause(undefined, await forNode('b'));
    expect(said).to.match(/peer\.connection-(failed|lost)/);
  });
});
