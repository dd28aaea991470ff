// One request over the HTTP gateway of a node of a simulated cluster, as the socket hands it on.

import { HttpGateway, type HttpAnswer } from '../../actors/gateway/protocol.ts';
import { refTo } from '../../runtime/actor.ts';
import { noBytes, utf8 } from '../../runtime/bytes.ts';
import type { SimCluster } from '../../sim/cluster.ts';

export interface GatewayCall {
  readonly route: string;
  readonly params?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON; absent: no body. */
  readonly json?: string | undefined;
}

/** Its answer, whatever the status; an error where there is none. */
export async function callGateway(
  cluster: SimCluster,
  node: string,
  { route, params = {}, headers = {}, json }: GatewayCall,
): Promise<HttpAnswer> {
  const request = {
    ...{ route, params, query: {} },
    headers: { ...headers, ...(json === undefined ? {} : { 'content-type': 'application/json' }) },
    body: json === undefined ? noBytes : utf8.encode(json),
  };
  const answer = await cluster.ask(refTo(HttpGateway, node), 'handle', request, 10_000);
  if (answer.kind !== 'reply') throw new Error(`no answer: ${JSON.stringify(answer)}`);
  return answer.reply;
}
