// One HTTP request whose answer does not end by itself: a watch. The chunks come as they arrive, and
// only as fast as they are taken.

import type { Agents, Attempt, ClientRequest } from './http-exchange.ts';

/** An answer of status 200 comes as a stream, any other one whole. */
export type StreamAttempt =
  | { readonly chunks: AsyncIterable<Uint8Array>; readonly close: () => void }
  | Attempt;

export interface StreamTerms {
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly signal?: AbortSignal | undefined;
  /** With nothing heard for so long the connection is given up. */
  readonly silenceMs: number;
}

/** Always resolves; the chunks end, also by an error, where the connection does. */
export function openStream(
  { method, path, headers: own }: ClientRequest,
  { url, headers, signal, silenceMs, agents }: StreamTerms & { readonly agents: Agents },
): Promise<StreamAttempt> {
  const base = url.pathname.replace(/\/$/, '');
  const { hostname, port } = url;
  const { agent, send } = agents.of(url);
  const target = { hostname: hostname.replace(/^\[|\]$/g, ''), port, path: base + path };
  return new Promise((resolve) => {
    const options = { ...target, method, headers: { ...headers, ...own }, agent };
    const sent = send({ ...options, ...(signal === undefined ? {} : { signal }) }, (response) => {
      const { statusCode: status = 0, headers: answered } = response;
      const close = (): void => void sent.destroy();
      if (status === 200) return resolve({ chunks: response, close });
      const parts: Buffer[] = [];
      response.on('data', (part: Buffer) => parts.push(part));
      response.on('error', (error) => resolve({ error, wasSent: true }));
      response.on('end', () =>
        resolve({ answer: { status, headers: answered, body: Buffer.concat(parts) } }),
      );
    });
    sent.setTimeout(silenceMs, () => sent.destroy(new Error('nothing was heard')));
    sent.on('error', (error) => resolve({ error, wasSent: true }));
    sent.end();
  });
}
