// A private certificate authority for one cluster, made on the machine of whoever runs `kvd certs`:
// a self-signed CA, certificates for nodes (they serve clients and talk to other nodes) and for
// clients (they can be nothing else). Keys are ECDSA over P-256.
//
// The name of the cluster stands in the CA certificate, so that what it issues cannot be for another
// one. What a certificate may be is said by its URI name (transport/tls.ts) and its key usages.
// References: RFC 5280; CA/Browser Forum Baseline Requirements section 7 (serial numbers).

import 'reflect-metadata';
import { isIP } from 'node:net';
import { KeyObject, randomBytes, webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { KvError } from '../../runtime/errors.ts';

/** PEM texts. */
export interface Issued {
  readonly cert: string;
  readonly key: string;
}

export type Subject =
  | { readonly node: string; readonly hosts: readonly string[] }
  | { readonly client: string };

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const dayMs = 86_400_000;
/** Clocks of machines differ: a certificate is valid a little before it was made. */
const backdateMs = 3_600_000;
const serialBytes = 16;
const namePattern = /^[A-Za-z0-9_-]{1,64}$/;
const hostPattern = /^[A-Za-z0-9*]([A-Za-z0-9.-]{0,252})$/;

/** A new authority for the cluster; its certificate is the `--tls-ca` of every node and client. */
export async function createAuthority(clusterName: string, days: number): Promise<Issued> {
  checkName(clusterName, 'cluster-name');
  const keys = await createKeys();
  const cert = await x509.X509CertificateGenerator.createSelfSigned(
    {
      ...validity(days),
      serialNumber: serialNumber(),
      name: `CN=kvd CA ${clusterName}`,
      signingAlgorithm: algorithm,
      keys,
      extensions: [
        new x509.BasicConstraintsExtension(true, 0, true),
        new x509.KeyUsagesExtension(
          x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign,
          true,
        ),
        new x509.SubjectAlternativeNameExtension([{ type: 'url', value: `kvd://${clusterName}` }]),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey, false, webcrypto),
      ],
    },
    webcrypto,
  );
  return { cert: cert.toString('pem'), key: exportKey(keys.privateKey) };
}

/** A certificate with its key. BAD_REQUEST: a name that cannot be one, or a CA that is none. */
export async function issueCertificate(
  authority: Issued,
  subject: Subject,
  days: number,
): Promise<Issued> {
  const issuer = readAuthority(authority);
  const { name, uri, hosts, usages } = describeSubject(subject, issuer.clusterName);
  const keys = await createKeys();
  const names: x509.JsonGeneralNames = [
    { type: 'url', value: uri },
    ...hosts.map((host) => ({ type: isIP(host) === 0 ? 'dns' : 'ip', value: host }) as const),
  ];
  const cert = await x509.X509CertificateGenerator.create(
    {
      ...validity(days, issuer.cert.notAfter),
      serialNumber: serialNumber(),
      subject: `CN=${name}`,
      issuer: issuer.cert.subject,
      signingAlgorithm: algorithm,
      publicKey: keys.publicKey,
      signingKey: await importKey(issuer.key),
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension(usages),
        new x509.SubjectAlternativeNameExtension(names),
        await x509.AuthorityKeyIdentifierExtension.create(issuer.cert, false, webcrypto),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey, false, webcrypto),
      ],
    },
    webcrypto,
  );
  return { cert: cert.toString('pem'), key: exportKey(keys.privateKey) };
}

function describeSubject(subject: Subject, clusterName: string) {
  const { serverAuth, clientAuth } = x509.ExtendedKeyUsage;
  if ('client' in subject) {
    const name = checkName(subject.client, 'client');
    const uri = `kvd://${clusterName}/client/${name}`;
    return { name, uri, hosts: [], usages: [clientAuth] };
  }
  const name = checkName(subject.node, 'node-id');
  for (const host of subject.hosts)
    if (isIP(host) === 0 && !hostPattern.test(host))
      throw invalid('host', `--host ${host}: expected names or addresses`);
  if (subject.hosts.length === 0)
    throw invalid('host', '--host: expected the names and addresses under which clients reach it');
  const uri = `kvd://${clusterName}/node/${name}`;
  return { name, uri, hosts: subject.hosts, usages: [serverAuth, clientAuth] };
}

function readAuthority({ cert: certPem, key }: Issued) {
  try {
    const cert = new x509.X509Certificate(certPem);
    const names = cert.getExtension(x509.SubjectAlternativeNameExtension)?.names.toJSON() ?? [];
    const [, clusterName] =
      names
        .map(({ type, value }) => (type === 'url' ? /^kvd:\/\/([\w-]{1,64})$/.exec(value) : null))
        .find((match) => match !== null) ?? [];
    if (clusterName !== undefined) return { cert, key, clusterName };
  } catch {
    // Said below.
  }
  throw invalid('dir', 'the CA certificate is not one that `kvd certs init` made');
}

function validity(days: number, notLaterThan?: Date): { notBefore: Date; notAfter: Date } {
  if (!Number.isInteger(days) || days < 1 || days > 36_500)
    throw invalid('days', '--days: expected a whole number from 1 to 36500');
  const nowMs = Date.now();
  const notAfterMs = Math.min(nowMs + days * dayMs, notLaterThan?.getTime() ?? Infinity);
  return { notBefore: new Date(nowMs - backdateMs), notAfter: new Date(notAfterMs) };
}

function serialNumber(): string {
  const bytes = randomBytes(serialBytes);
  // Positive, and not shortened as a number.
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes.toString('hex');
}

function createKeys(): Promise<CryptoKeyPair> {
  return webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
}

type CryptoKeyPair = webcrypto.CryptoKeyPair;

function exportKey(key: webcrypto.CryptoKey): string {
  return KeyObject.from(key).export({ type: 'pkcs8', format: 'pem' }).toString();
}

function importKey(pem: string): Promise<webcrypto.CryptoKey> {
  const [, base64 = ''] = /BEGIN PRIVATE KEY-----([A-Za-z0-9+/=\s]+)-----END/.exec(pem) ?? [];
  if (base64 === '') throw invalid('dir', 'the key of the CA is no PKCS #8 private key');
  const der = Buffer.from(base64, 'base64');
  return webcrypto.subtle.importKey('pkcs8', der, algorithm, false, ['sign']);
}

function checkName(name: string, field: string): string {
  if (!namePattern.test(name))
    throw invalid(field, `--${field}: expected 1 to 64 letters, digits, hyphens or underscores`);
  return name;
}

const invalid = (field: string, detail: string): KvError =>
  new KvError('BAD_REQUEST', { field, detail });
