// Requests and answers as the HTTP edge and the gateway exchange them. The edge turns sockets into
// these; the gateway validates, routes and maps errors.

import { ask, protocol, tell } from '../../runtime/protocol.ts';
import type { PeerStates } from '../membership/protocol.ts';

export interface HttpRequest {
  /** Name of a row of http-routes.ts. */
  readonly route: string;
  /** Path parameters, percent-decoded. */
  readonly params: Readonly<Record<string, string>>;
  /** Query parameters, the last of each name. */
  readonly query: Readonly<Record<string, string>>;
  /** Header names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
}

export const HttpGateway = protocol('http-gateway', 40, {
  handle: ask<HttpRequest, HttpAnswer>(1),
  peersChanged: tell<PeerStates>(2, { lane: 'control' }),
  /** From now on refuse new requests with DRAINING; readyz says 503. */
  startDraining: ask<object, object>(3, { lane: 'control' }),
});
export type HttpGateway = typeof HttpGateway.messages;
