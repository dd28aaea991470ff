// The certificate, key and authority of a node, from their files. They are looked at again every
// half minute: whoever renews a certificate replaces the files, and new connections use it; those
// that are open go on. Files that do not fit together are refused at the start, and later leave
// everything as it was.

import { createPrivateKey, X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import type { Log } from '../../runtime/environment.ts';
import { KvError } from '../../runtime/errors.ts';
import { namesUri, nodeUri, type TlsMaterial } from '../../transport/tls.ts';
import { openToOthers, readNamedFile } from './named-file.ts';

export interface TlsPaths {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
}

/** A node's TLS: plain data, for every thread. */
export interface NodeTls {
  readonly paths: TlsPaths;
  readonly material: TlsMaterial;
  readonly requiresClientCertificate: boolean;
}

const lookEveryMs = 30_000;

/**
 * BAD_REQUEST where the files cannot be read, do not fit together, or are for another node, and where
 * everybody may read the key.
 */
export function readTlsFiles(paths: TlsPaths, clusterName: string, node: string): TlsMaterial {
  const material = {
    cert: readText(paths.cert, 'tlsCert'),
    key: readText(paths.key, 'tlsKey', openToOthers),
    ca: readText(paths.ca, 'tlsCa'),
  };
  const certificate = parsed('tlsCert', paths.cert, () => new X509Certificate(material.cert));
  const key = parsed('tlsKey', paths.key, () => createPrivateKey(material.key));
  const authority = parsed('tlsCa', paths.ca, () => new X509Certificate(material.ca));
  if (!certificate.checkPrivateKey(key))
    throw invalid('tlsKey', `${paths.key} is not the key of ${paths.cert}`);
  if (!namesUri(certificate.subjectAltName ?? '', nodeUri(clusterName, node)))
    throw invalid(
      'tlsCert',
      `${paths.cert} is not for node ${node} of cluster ${clusterName}: make one with kvd certs issue`,
    );
  if (!authority.ca) throw invalid('tlsCa', `${paths.ca} is no certificate of an authority`);
  parsed('tlsCert', paths.cert, () => createSecureContext(material));
  return material;
}

/** Seconds since 1970. */
export function expirySeconds({ cert }: TlsMaterial): number {
  return Date.parse(new X509Certificate(cert).validTo) / 1000;
}

/** Calls `renewed` with what the files hold whenever that changes; returns how to stop. */
export function watchTlsFiles(
  { paths, material }: NodeTls,
  who: { readonly clusterName: string; readonly node: string; readonly log: Log },
  renewed: (material: TlsMaterial) => void,
  everyMs = lookEveryMs,
): () => void {
  let current = material;
  const timer = setInterval(() => {
    try {
      const found = readTlsFiles(paths, who.clusterName, who.node);
      const isSame =
        found.cert === current.cert && found.key === current.key && found.ca === current.ca;
      if (isSame) return;
      current = found;
      renewed(found);
      who.log.info('tls.renewed', { expires: new X509Certificate(found.cert).validTo });
    } catch (error) {
      // Files are replaced one after the other: the next look finds them complete.
      who.log.warn('tls.not-renewed', { reason: (error as Error).message });
    }
  }, everyMs);
  timer.unref();
  return () => clearInterval(timer);
}

const readText = (path: string, field: string, excluded = 0): string =>
  readNamedFile(path, (detail) => invalid(field, detail), excluded);

function parsed<T>(field: string, path: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw invalid(field, `${path}: ${(error as Error).message}`);
  }
}

const invalid = (field: string, detail: string): KvError =>
  new KvError('BAD_REQUEST', { field, detail });
