// The HTTP socket: fastify turns requests into gateway messages and answers back into bytes. It
// knows the table of routes, limits and the form of a problem; it decides nothing about a request
// that could be read, and refuses by itself only what could not.
//
// Limits: rules SE-2 (slow clients), SE-3 (headers, bodies where none belong), SE-4 (bodies counted
// while they stream), SE-6 (one strict decoding of the path). Bodies reach the gateway as bytes.

import type { ServerResponse } from 'node:http';
import type { Server } from 'node:net';
import type { Duplex } from 'node:stream';
import { type FastifyInstance, type FastifyReply, type FastifyRequest, fastify } from 'fastify';
import {
  type BodyLimits,
  bodyBytesMax,
  defaultBodyLimits,
  type HttpRoute,
  httpRoutes,
  pathsOf,
  problemAnswer,
  requestHeaders,
} from '../actors/gateway/http-routes.ts';
import {
  type GatewayTimeouts,
  type HttpAnswer,
  httpAnswerMs,
  type HttpRequest,
  usualTimeouts,
} from '../actors/gateway/protocol.ts';
import { type ErrorCode, type Failure, failure } from '../runtime/errors.ts';
import { BodyBudget } from './body-budget.ts';
import { ConnectionCap, type ConnectionLimits, defaultConnectionLimits } from './connection-cap.ts';
import { followWatch, type WatchSource } from './edge-watch.ts';
import { FailedHandshakes, type FailureHost } from './failed-handshakes.ts';
import { listenError } from './listen-error.ts';
import { OpenRequests } from './open-requests.ts';
import { StallWatch } from './stall-watch.ts';
import { type EdgeTls, edgeTlsOptions, renewServer, type TlsMaterial } from './tls.ts';
import { Unanswered } from './unanswered.ts';

/** Asks the gateway; `done` gets exactly one of the two. kernel.ask, with the gateway's ref. */
export type AskGateway = (
  request: HttpRequest,
  timeoutMs: number,
  trace: string,
  done: (problem: Failure | undefined, answer: HttpAnswer | undefined) => void,
) => void;

export interface HttpEdgeOptions {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly ask: AskGateway;
  /** Where the events of a watch come from; absent: its answer is empty. */
  readonly watches?: WatchSource;
  /** Named in what the edge refuses by itself, as the gateway names it in its answers. */
  readonly node: string;
  /** Those of the gateway, which answers by them. Default: as their settings are by default. */
  readonly timeouts?: GatewayTimeouts;
  /** Default: 1 MiB for a value, 16 MiB for a batch. */
  readonly limits?: BodyLimits;
  readonly connectionLimits?: Partial<HttpConnectionLimits>;
  /** Where connections and requests are told of that come to nothing; absent: nowhere. */
  readonly reports?: FailureHost;
  /** Absent: nothing is encrypted. */
  readonly tls?: EdgeTls | undefined;
  /** Clients have to show a token, so that of a connection without one less is kept. Default false. */
  readonly requiresLogin?: boolean;
}

export interface HttpConnectionLimits extends ConnectionLimits {
  /** Bytes of bodies that all requests together hold; of strangers, half of it. Default 256 MiB. */
  readonly bodyBytes: number;
  /** Requests of one connection that are under way. Default 128. */
  readonly requestsPerConnection: number;
  /** Bytes of answers that nobody has taken yet, of all connections. Default 256 MiB. */
  readonly answerBytes: number;
  /** Headers have to arrive within this time. Default 10 s. */
  readonly headersMs: number;
  /** The whole request has to arrive within this time. Default 30 s. */
  readonly requestMs: number;
  /** A connection without a request is closed after this time. Default 5 s. */
  readonly idleMs: number;
}

export const defaultHttpLimits: HttpConnectionLimits = {
  ...defaultConnectionLimits,
  connectionsReserved: 32,
  bodyBytes: 256 * 1024 * 1024,
  requestsPerConnection: 128,
  answerBytes: 256 * 1024 * 1024,
  headersMs: 10_000,
  requestMs: 30_000,
  idleMs: 5000,
};

/** Slow requests are looked for this often, or more often where their time is shorter. */
const checkIntervalMsMax = 5000;
const requestsPerSocketMax = 10_000;
const headersMax = 100;
const headerBytesMax = 16 * 1024;
/** A key of 1 KiB, every byte percent-encoded; what is longer is the gateway's to refuse. */
const paramLengthMax = 8192;
const answerMarginMs = 500;
const deadlineMsMax = 60_000;
/** Connections that are still busy this long after close() are cut. */
const closeTimeoutMs = 5000;

const methods = ['GET', 'HEAD', 'PUT', 'POST', 'DELETE', 'PATCH', 'OPTIONS'] as const;
const traceparent = /^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}$/;
const emptyBody = new Uint8Array(0);

export class HttpEdge {
  readonly #options: HttpEdgeOptions;
  /** The gateway answers by itself at its deadline; this is for a gateway that does not. */
  readonly #answerMs: number;
  readonly #app: FastifyInstance;
  readonly #stalls: StallWatch;
  readonly #cap: ConnectionCap;
  readonly #open: OpenRequests;
  readonly #bodies: BodyBudget;
  /** Ends each open watch. */
  readonly #watches = new Set<() => void>();
  #isClosing = false;
  #failed: FailedHandshakes | undefined;
  readonly #unanswered: Unanswered;

  constructor(options: HttpEdgeOptions) {
    this.#options = options;
    this.#unanswered = new Unanswered(options.reports);
    this.#answerMs = httpAnswerMs(options.timeouts ?? usualTimeouts);
    const limited = { ...defaultHttpLimits, ...options.connectionLimits };
    this.#open = new OpenRequests(limited.requestsPerConnection, limited.answerBytes);
    this.#bodies = new BodyBudget(limited.bodyBytes, options.requiresLogin === true);
    this.#app = createApp(options, { ...limited, open: this.#open, bodies: this.#bodies });
    this.#stalls = new StallWatch(limited.stallMs);
    this.#cap = new ConnectionCap({
      total: limited.connections,
      perAddress: limited.connectionsPerAddress,
      reserved: limited.connectionsReserved,
      isEncrypted: options.tls !== undefined,
      refused,
    });
    this.#guard(this.#app.server);
    const limits = options.limits ?? defaultBodyLimits;
    for (const route of httpRoutes) this.#register(route, limits);
    this.#refuseOtherMethods();
  }

  /** BAD_REQUEST where the address cannot be had, with what to do about it. */
  async listen(): Promise<{ readonly port: number }> {
    const { host, port } = this.#options;
    try {
      await this.#app.listen({ host, port });
    } catch (error) {
      throw listenError(error, { host, port, field: 'http-port' });
    }
    const address = this.#app.server.address();
    return { port: address !== null && typeof address === 'object' ? address.port : port };
  }

  /** For connections from now on. */
  renewTls(material: TlsMaterial): void {
    renewServer(this.#app.server, material);
  }

  /** Takes no more connections, lets open requests end, cuts what is left after 5 s. */
  async close(): Promise<void> {
    this.#isClosing = true;
    this.#stalls.close();
    this.#failed?.end();
    for (const end of this.#watches) end();
    const cut = setTimeout(() => this.#app.server.closeAllConnections(), closeTimeoutMs);
    try {
      await this.#app.close();
    } finally {
      clearTimeout(cut);
    }
  }

  #guard(server: Server): void {
    const { tls, reports: host } = this.#options;
    const isEncrypted = tls !== undefined;
    this.#cap.watch(server);
    if (isEncrypted) {
      this.#failed = new FailedHandshakes({ port: 'http', event: 'client.handshake-failed', host });
      this.#failed.watch(server);
    }
    this.#stalls.watch(server, isEncrypted ? 'secureConnection' : 'connection');
  }

  #register(route: HttpRoute, limits: BodyLimits): void {
    const { method, body } = route;
    for (const url of pathsOf(route))
      this.#app.route({
        method,
        url,
        bodyLimit: bodyBytesMax(route, limits),
        ...(body === 'none' ? { onRequest: refuseBody } : {}),
        handler: (request, reply) => this.#handle(route, request, reply),
      });
  }

  #handle(route: HttpRoute, request: FastifyRequest, reply: FastifyReply): void {
    const query = parseQuery(request.raw.url ?? '');
    if (typeof query === 'string')
      return send(reply, problemAnswer(failure('BAD_REQUEST', { detail: query })));
    const isReserved = this.#cap.keep(request.raw.socket);
    const message: HttpRequest = {
      route: route.name,
      params: request.params as Record<string, string>,
      query,
      headers: pickHeaders(request),
      body: plainBytes(request.body),
      client: request.socket.remoteAddress ?? '',
      ...(isReserved ? { isReserved } : {}),
    };
    // From here on the answer goes straight to the socket.
    reply.hijack();
    const trace = traceOf(request.headers['traceparent']);
    this.#options.ask(message, timeoutOf(message) ?? this.#answerMs, trace, (problem, answer) => {
      if (answer?.isLoggedIn === true) this.#bodies.loggedIn(request.raw.socket);
      const final = answer ?? this.#unansweredBy(route, trace, problem ?? failure('BUG'));
      if (route.name === 'watch' && final.status === 200) return this.#follow(reply, final);
      this.#answer(route, reply, final, isReserved);
    });
  }

  #unansweredBy({ name }: HttpRoute, trace: string, problem: Failure): HttpAnswer {
    const answer = problemAnswer(problem);
    const { status } = answer;
    if (status >= 500)
      this.#unanswered.happened({ route: name, trace, status, code: problem.code });
    return answer;
  }

  /** An answer of which nothing has to be known, a read, gives way where too many bytes wait. */
  #answer(
    { name, method }: HttpRoute,
    reply: FastifyReply,
    answer: HttpAnswer,
    isReserved: boolean,
  ): void {
    const { raw } = reply;
    const { socket } = reply.request.raw;
    const isHead = method === 'HEAD';
    const bytesOf = ({ body }: HttpAnswer): number => (isHead ? 0 : body.length);
    const isRead = method === 'GET' || name === 'batch-get';
    const detail = isRead ? this.#open.refusalOf(socket, bytesOf(answer)) : undefined;
    const final = detail === undefined ? answer : problemOf('OVERLOADED', detail);
    this.#open.answered(socket, raw, bytesOf(final));
    const isLast = this.#isClosing || isReserved || detail !== undefined;
    write(raw, final, { isHead, isLast });
  }

  #follow({ raw }: FastifyReply, answer: HttpAnswer): void {
    const { watches } = this.#options;
    if (watches === undefined || this.#isClosing)
      return write(raw, answer, { isHead: false, isLast: true });
    const end = followWatch(raw, answer, watches);
    this.#watches.add(end);
    raw.once('close', () => this.#watches.delete(end));
  }

  #refuseOtherMethods(): void {
    const known = new Map<string, string[]>();
    for (const route of httpRoutes)
      for (const path of pathsOf(route))
        known.set(path, [...(known.get(path) ?? []), route.method]);
    for (const [url, allowed] of known) {
      const others = methods.filter((method) => !allowed.includes(method));
      const refuse = (request: FastifyRequest, reply: FastifyReply): void => {
        const detail = `${request.method} is not taken here; ${allowed.join(', ')} would be`;
        send(reply.header('allow', allowed.join(', ')), problemOf('METHOD_NOT_ALLOWED', detail));
      };
      // Before the body is read: what it holds does not matter.
      this.#app.route({ method: others, url, onRequest: refuse, handler: refuse });
    }
  }
}

function createApp(
  { node, tls }: HttpEdgeOptions,
  limits: HttpConnectionLimits & { readonly open: OpenRequests; readonly bodies: BodyBudget },
): FastifyInstance {
  const { headersMs, requestMs, idleMs, handshakeMs, open, bodies } = limits;
  const protocol = {
    headersTimeout: headersMs,
    connectionsCheckingInterval: Math.min(checkIntervalMsMax, headersMs, requestMs),
    maxHeaderSize: headerBytesMax,
  };
  const app = fastify({
    logger: false,
    requestTimeout: requestMs,
    keepAliveTimeout: idleMs,
    maxRequestsPerSocket: requestsPerSocketMax,
    forceCloseConnections: 'idle',
    exposeHeadRoutes: false,
    return503OnClosing: false,
    ...(tls === undefined
      ? { http: protocol }
      : { https: { ...protocol, ...edgeTlsOptions(tls, handshakeMs) } }),
    routerOptions: {
      maxParamLength: paramLengthMax,
      // The gateway gets the query from the raw URL, once and strictly.
      querystringParser: () => ({}),
    },
    frameworkErrors: (error, _request, reply) => {
      send(reply.header('x-coordinator', node), frameworkProblem(error));
    },
    clientErrorHandler: refuseSocket,
  });
  app.addHook('onRequest', (request, reply, done) => {
    reply.header('x-coordinator', node);
    const refusal = refusalOf(request, reply, open);
    if (refusal !== undefined) return send(reply.header('connection', 'close'), refusal);
    bodies.expect(request, reply);
    done();
  });
  // Node would drop the rest without a word, conditions among them; the hook above counts.
  app.server.maxHeadersCount = 0;
  app.removeAllContentTypeParsers();
  for (const type of ['application/json', 'application/octet-stream'])
    app.addContentTypeParser(type, (request, payload, done) => {
      bodies.read(request, payload, done);
    });
  app.setNotFoundHandler((request, reply) => {
    const [path = ''] = request.url.split('?', 1);
    const hint = keyAndMore.test(path) ? '; a slash in a key is %2F' : '';
    send(reply, problemOf('NOT_FOUND', `there is nothing under ${path}${hint}`));
  });
  app.setErrorHandler((error, request, reply) => {
    const { code } = error as { readonly code?: string };
    // What is left of the body is not read.
    const isCut = code === 'FST_ERR_CTP_BODY_TOO_LARGE' || code === 'OVERLOADED';
    const answer = frameworkProblem(error, request.routeOptions.bodyLimit);
    send(isCut ? reply.header('connection', 'close') : reply, answer);
  });
  return app;
}

// ---- requests ------------------------------------------------------------------------------

/** A key whose slashes are not encoded. */
const keyAndMore = /\/keys\/[^/]+\/./;

/** Plain bytes: a Buffer is a class of Node that must not reach actors. */
function plainBytes(body: unknown): Uint8Array {
  if (!(body instanceof Uint8Array)) return emptyBody;
  return new Uint8Array(body.buffer, body.byteOffset, body.byteLength);
}

function pickHeaders({ headers }: FastifyRequest): Record<string, string> {
  const picked: Record<string, string> = {};
  for (const name of requestHeaders) {
    const value = headers[name];
    if (typeof value === 'string') picked[name] = value;
  }
  return picked;
}

/** What is wrong with it where a name is there twice, or percent-encoding or its UTF-8 is broken. */
function parseQuery(url: string): Record<string, string> | string {
  const at = url.indexOf('?');
  const query: Record<string, string> = {};
  if (at < 0) return query;
  try {
    for (const pair of url.slice(at + 1).split('&')) {
      if (pair === '') continue;
      const equals = pair.indexOf('=');
      const name = decodeText(equals < 0 ? pair : pair.slice(0, equals));
      const value = equals < 0 ? '' : decodeText(pair.slice(equals + 1));
      if (Object.hasOwn(query, name)) return `${name}: expected it once in the query`;
      // An own property, also for a name like __proto__.
      Object.defineProperty(query, name, { value, enumerable: true, configurable: true });
    }
  } catch {
    return 'query: expected name=value pairs with valid percent-encoded UTF-8';
  }
  return query;
}

const decodeText = (text: string): string => decodeURIComponent(text.replaceAll('+', ' '));

/** A little more than the client's deadline: the gateway's own answer says more. Undefined: none. */
function timeoutOf({ headers }: HttpRequest): number | undefined {
  const asked = Number(headers['x-deadline-ms']);
  return asked > 0 && asked <= deadlineMsMax ? asked + answerMarginMs : undefined;
}

/** The trace id of a W3C trace context header; empty where there is none. */
function traceOf(header: unknown): string {
  return typeof header === 'string' ? (traceparent.exec(header)?.[1] ?? '') : '';
}

/** Of any request, before anything of it is looked at. */
function refusalOf(
  { raw }: FastifyRequest,
  reply: FastifyReply,
  open: OpenRequests,
): HttpAnswer | undefined {
  if (raw.rawHeaders.length > 2 * headersMax)
    return problemAnswer(failure('TOO_LARGE', { detail: `headers: more than ${headersMax}` }), 431);
  const detail = open.begin(raw.socket, reply.raw);
  return detail === undefined ? undefined : problemOf('OVERLOADED', detail);
}

function refuseBody(request: FastifyRequest, reply: FastifyReply, done: () => void): void {
  const { headers } = request;
  const length = headers['content-length'];
  if (headers['transfer-encoding'] === undefined && (length === undefined || length === '0'))
    return done();
  send(reply, problemOf('BAD_REQUEST', `${request.method} takes no body here`));
}

// ---- answers -------------------------------------------------------------------------------

interface WriteOptions {
  readonly isHead: boolean;
  /** The connection ends with this answer. */
  readonly isLast: boolean;
}

function write(raw: ServerResponse, answer: HttpAnswer, { isHead, isLast }: WriteOptions): void {
  const { status, body } = answer;
  const headers: Record<string, string | number> = { ...answer.headers };
  if (!isHead) headers['content-length'] = body.length;
  if (isLast) headers['connection'] = 'close';
  raw.writeHead(status, headers);
  if (isHead) raw.end();
  else raw.end(body);
}

/** For refusals: fastify keeps the headers that it has set, such as `connection: close`. */
function send(reply: FastifyReply, { status, headers, body }: HttpAnswer): void {
  void reply.code(status).headers(headers).send(Buffer.from(body));
}

/** Told to a connection that is one too many. */
const refused =
  'HTTP/1.1 503 Refused\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n';

const problemOf = (code: ErrorCode, detail: string): HttpAnswer =>
  problemAnswer(failure(code, { detail }));

/** Fastify's own refusals: what could not be read as a request of this face. */
function frameworkProblem(error: unknown, bodyLimit?: number): HttpAnswer {
  const { code, statusCode, message } = error as {
    readonly code?: string;
    readonly statusCode?: number;
    readonly message: string;
  };
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE')
    return problemOf('TOO_LARGE', `the body is over the limit of this path, ${bodyLimit} bytes`);
  if (statusCode === 415)
    return problemOf(
      'UNSUPPORTED_MEDIA_TYPE',
      'content-type: expected application/json or application/octet-stream',
    );
  if (code === 'FST_ERR_BAD_URL')
    return problemOf('BAD_REQUEST', 'path: expected valid percent-encoded UTF-8');
  if (code === 'OVERLOADED') return problemOf('OVERLOADED', message);
  if (statusCode === 414) return problemOf('TOO_LARGE', 'the path is too long');
  if (statusCode !== undefined && statusCode < 500) return problemOf('BAD_REQUEST', message);
  return problemOf('BUG', message);
}

const socketProblems: Readonly<Record<string, readonly [number, ErrorCode, string]>> = {
  HPE_HEADER_OVERFLOW: [431, 'TOO_LARGE', `headers: more than ${headerBytesMax} bytes`],
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'BAD_REQUEST', 'the request did not arrive in time'],
};

/** What is no HTTP at all, or too slow: an answer by hand, then the connection ends. */
function refuseSocket(error: { readonly code?: string }, socket: Duplex): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const [status, code, detail] = socketProblems[error.code ?? ''] ?? [
    400,
    'BAD_REQUEST',
    'this is not valid HTTP/1.1',
  ];
  const { headers, body } = problemAnswer(failure(code, { detail }), status);
  const lines = [
    `HTTP/1.1 ${status} Refused`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    `content-length: ${body.length}`,
    'connection: close',
  ];
  socket.write(`${lines.join('\r\n')}\r\n\r\n`);
  socket.end(body);
}
