// The client's world inside a simulation: requests go to the gateways of simulated nodes, time is
// virtual, chance comes from the seed. What the HTTP edge of a real node does with a request (route,
// headers, query) is done here in the same way, without a socket.

import {
  HttpGateway,
  type HttpAnswer,
  type HttpRequest,
  Watcher,
} from '../../actors/gateway/protocol.ts';
import {
  type HttpRoute,
  httpRoutes,
  pathsOf,
  problemAnswer,
  requestHeaders,
} from '../../actors/gateway/http-routes.ts';
import { refTo } from '../../runtime/actor.ts';
import { noBytes } from '../../runtime/bytes.ts';
import type { ClientAnswer as SimAnswer, SimCluster } from '../../sim/cluster.ts';
import type { ClientWorld } from '../client/client-world.ts';
import type { Attempt, ClientRequest, ExchangeTerms } from '../client/http-exchange.ts';
import type { StreamAttempt, StreamTerms } from '../client/http-stream.ts';
import type { SimDriver } from './sim-driver.ts';

/** The port of the first node; the others follow in steps of ten, as `kvd dev` has them. */
const firstPort = 7000;
/** The node's own answer at the deadline says more than none: as long as a real client waits. */
const answerMarginMs = 1000;
const openTimeoutMs = 10_000;
/** As the edge of a real node asks its watcher. */
const aliveMs = 10_000;
const nextTimeoutMs = 15_000;

/** Base URLs of the nodes, as they tell each other; nobody listens there. */
export const simUrl = (index: number): string => `http://127.0.0.1:${firstPort + 10 * index}`;

export function simWorld(cluster: SimCluster, driver: SimDriver): ClientWorld {
  const random = cluster.world.random.fork('client');
  const nodes = new Map(cluster.names.map((name, i) => [new URL(simUrl(i)).host, name]));
  let ids = 0;
  return {
    exchange: (request, terms) => exchange({ cluster, driver, nodes }, request, terms),
    stream: (request, terms) => openStream({ cluster, driver, nodes }, request, terms),
    nowMs: () => cluster.world.nowMs,
    sleep: (delayMs, signal) =>
      withAbort(
        signal,
        driver.wait<undefined>((done) =>
          cluster.world.after(delayMs, undefined, 'client.sleep', () => done(undefined)),
        ),
        undefined,
      ),
    random: () => random.float(),
    newId: () => {
      ids += 1;
      return `sim-${cluster.world.seed}-${ids}`;
    },
    close: () => undefined,
  };
}

interface Ends {
  readonly cluster: SimCluster;
  readonly driver: SimDriver;
  readonly nodes: ReadonlyMap<string, string>;
}

async function exchange(
  { cluster, driver, nodes }: Ends,
  request: ClientRequest,
  { url, timeoutMs, headers, signal }: ExchangeTerms,
): Promise<Attempt> {
  const node = nodes.get(url.host);
  if (node === undefined) return { error: new Error(`no node at ${url.host}`), wasSent: false };
  const message = toMessage(request, { ...headers, 'x-deadline-ms': String(timeoutMs) });
  if (message === undefined)
    return { error: new Error(`no such path: ${request.path}`), wasSent: false };
  const answered = driver.wait<SimAnswer<HttpAnswer>>((done) => {
    const waitMs = timeoutMs + answerMarginMs;
    void cluster.ask(refTo(HttpGateway, node), 'handle', message, waitMs).then(done);
  });
  const aborted: Attempt = { error: new Error('aborted'), wasSent: true };
  return withAbort(signal, answered.then(toAttempt), aborted);
}

async function openStream(
  ends: Ends,
  request: ClientRequest,
  { url, headers, signal }: StreamTerms,
): Promise<StreamAttempt> {
  const outcome = await exchange(ends, request, { url, headers, signal, timeoutMs: openTimeoutMs });
  if (!('answer' in outcome) || outcome.answer.status !== 200) return outcome;
  const node = ends.nodes.get(url.host) ?? '';
  const watch = Number(outcome.answer.headers['x-watch']);
  let isOpen = true;
  async function* chunks(): AsyncGenerator<Uint8Array> {
    while (isOpen) {
      const next = ends.driver.wait<SimAnswer<StreamPart>>((done) => {
        const body = { watch, waitMs: aliveMs };
        void ends.cluster.ask(refTo(Watcher, node), 'next', body, nextTimeoutMs).then(done);
      });
      const answer = await withAbort(signal, next, undefined);
      if (answer?.kind !== 'reply') return;
      yield answer.reply.bytes;
      if (answer.reply.isLast) return;
    }
  }
  const close = (): void => {
    isOpen = false;
    ends.cluster.kernelOf(node)?.tell(refTo(Watcher, node), 'close', { watch });
  };
  return { chunks: chunks(), close };
}

interface StreamPart {
  readonly bytes: Uint8Array;
  readonly isLast: boolean;
}

function toAttempt(answer: SimAnswer<HttpAnswer>): Attempt {
  switch (answer.kind) {
    case 'refused':
      return { error: new Error('connection refused'), wasSent: false };
    case 'lost':
      return { error: new Error('no answer in time'), wasSent: true };
    case 'failure':
      return { answer: toClientAnswer(problemAnswer(answer.failure)) };
    case 'reply':
      return { answer: toClientAnswer(answer.reply) };
  }
}

const toClientAnswer = ({ status, headers, body }: HttpAnswer) => ({
  status,
  headers: { ...headers },
  body: Buffer.from(body.buffer, body.byteOffset, body.byteLength),
});

/** `result`, or `aborted` as soon as the signal is. */
function withAbort<T>(signal: AbortSignal | undefined, result: Promise<T>, aborted: T): Promise<T> {
  if (signal === undefined) return result;
  if (signal.aborted) return Promise.resolve(aborted);
  return new Promise((resolve, reject) => {
    const onAbort = (): void => resolve(aborted);
    signal.addEventListener('abort', onAbort, { once: true });
    const end = (): void => signal.removeEventListener('abort', onAbort);
    result.then(resolve, reject).finally(end);
  });
}

// ---- paths -----------------------------------------------------------------------------------

interface Pattern {
  readonly route: HttpRoute;
  readonly segments: readonly string[];
}

/** Exact segments before parameters: `/keys` of a list is no key. */
const patterns: readonly Pattern[] = httpRoutes.flatMap((route) =>
  pathsOf(route).map((path) => ({ route, segments: path.split('/') })),
);

function toMessage(
  { method, path, headers, body }: ClientRequest,
  more: Readonly<Record<string, string>>,
): HttpRequest | undefined {
  const [bare = '', search = ''] = path.split('?', 2);
  const segments = bare.split('/');
  for (const { route, segments: pattern } of patterns) {
    const params = route.method === method ? paramsOf(pattern, segments) : undefined;
    if (params === undefined) continue;
    const query = Object.fromEntries(new URLSearchParams(search));
    const all = { ...more, ...headers };
    const picked = Object.entries(all).filter(([name]) => requestHeaders.includes(name));
    return {
      route: route.name,
      params,
      query,
      headers: Object.fromEntries(picked),
      body: body === undefined ? noBytes : new Uint8Array(body),
    };
  }
  return undefined;
}

function paramsOf(
  pattern: readonly string[],
  segments: readonly string[],
): Record<string, string> | undefined {
  if (pattern.length !== segments.length) return undefined;
  const params: Record<string, string> = {};
  for (const [i, expected] of pattern.entries()) {
    const segment = segments[i] as string;
    if (expected.startsWith(':')) params[expected.slice(1)] = decodeURIComponent(segment);
    else if (expected !== segment) return undefined;
  }
  return params;
}
