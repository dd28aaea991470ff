// One HTTP request whose answer does not end by itself: a watch. The chunks come as they arrive, and
// only as fast as they are taken.

import { type Agents, type Attempt, type ClientRequest, collect, sendTo } from './http-exchange.ts';

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
  /** The same until the answer begins. */
  readonly answerMs: number;
}

/** Always resolves; the chunks end, also by an error, where the connection does. */
export function openStream(
  { method, path, headers: own }: ClientRequest,
  { url, headers, signal, silenceMs, answerMs, agents }: StreamTerms & { readonly agents: Agents },
): Promise<StreamAttempt> {
  return new Promise((resolve) => {
    const sending = { agents, method, path, headers: { ...headers, ...own }, signal };
    const sent = sendTo(url, sending, (response) => {
      if (response.statusCode !== 200) return collect(response, resolve);
      sent.setTimeout(silenceMs);
      resolve({ chunks: response, close: () => void sent.destroy() });
    });
    sent.setTimeout(answerMs, () => sent.destroy(new Error('nothing was heard')));
    sent.on('error', (error) => resolve({ error, wasSent: true }));
    sent.end();
  });
}
