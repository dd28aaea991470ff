// Terms of every TLS connection: protocol versions, who has to show a certificate, and who a
// certificate speaks for. The names in certificates are URIs in the subject alternative name:
// `kvd://CLUSTER/node/ID` may be a node, `kvd://CLUSTER/client/NAME` may only be a client; both are
// issued by the private CA of the cluster (`kvd certs`).
//
// A peer is who its certificate says, never who its messages say (rules SE-17, SE-18).
// References: RFC 5280 section 4.2.1.6; Node's documentation of tls.

import type { Server, Socket } from 'node:net';
import {
  type SecureContextOptions,
  Server as TlsServer,
  type TlsOptions,
  TLSSocket,
} from 'node:tls';

/** PEM texts. `ca` may hold several authorities, so that one can follow the other. */
export interface TlsMaterial {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
}

export interface EdgeTls {
  readonly material: TlsMaterial;
  /** Clients without a certificate of the authority are refused during the handshake. */
  readonly requiresClientCertificate: boolean;
}

/** What of a context may be renewed while a server listens. */
export function secureContextOptions({ cert, key, ca }: TlsMaterial): SecureContextOptions {
  return { cert, key, ca, minVersion: 'TLSv1.2' };
}

/** What a listener with TLS shows on connections from now on. */
export function renewServer(server: Server | undefined, material: TlsMaterial): void {
  if (server instanceof TlsServer) server.setSecureContext(secureContextOptions(material));
}

/** For a listener of clients; FailedHandshakes closes what runs into `handshakeTimeout`. */
export function edgeTlsOptions(
  { material, requiresClientCertificate }: EdgeTls,
  handshakeTimeout: number,
): TlsOptions {
  return {
    ...secureContextOptions(material),
    requestCert: requiresClientCertificate,
    rejectUnauthorized: requiresClientCertificate,
    handshakeTimeout,
  };
}

export const nodeUri = (clusterName: string, node: string): string =>
  `kvd://${clusterName}/node/${node}`;

/** Why the certificate at the other end does not speak for `node`; undefined: it does. */
export function certificateRefusal(
  socket: Socket,
  clusterName: string,
  node: string,
): string | undefined {
  if (!(socket instanceof TLSSocket)) return 'the connection is not encrypted';
  // True only after a chain to the authority was found.
  if (!socket.authorized) return 'its certificate is not of the authority of this cluster';
  const names = socket.getPeerX509Certificate()?.subjectAltName ?? '';
  return namesUri(names, nodeUri(clusterName, node))
    ? undefined
    : `its certificate is not for node ${node} of cluster ${clusterName}`;
}

/** Whether a list of names as Node prints it has this URI. */
export function namesUri(subjectAltName: string, uri: string): boolean {
  // Node puts names with commas or control characters into quotes: no name of ours needs that.
  if (subjectAltName.includes('"')) return false;
  return subjectAltName.split(', ').includes(`URI:${uri}`);
}
