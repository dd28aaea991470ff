// Answers HTTP requests: checks them, asks the coordinator of the key, renders the outcome. A hot
// path: requests are answered from callbacks, without a session and without a promise.
//
// Every request gets exactly one answer, at the latest at its deadline, and every failure leaves as
// a problem document. An attempt that failed goes on to the next replica where that cannot do
// harm: a read always, a write only if the failed attempt certainly had no effect (rule ID-1).

import {
  actor,
  type Call,
  type Context,
  type Deferred,
  type Done,
  type Later,
  type Ref,
  refTo,
} from '../../runtime/actor.ts';
import { type Failure, failure, KvError, toFailure } from '../../runtime/errors.ts';
import type { Handlers } from '../../runtime/protocol.ts';
import type { Sealer } from '../../runtime/seal.ts';
import type { Catalog, CatalogBytes } from '../catalog/protocol.ts';
import type { PeerStates } from '../membership/protocol.ts';
import type { Level } from '../model/consistency.ts';
import { recordEtag, recordIsSet } from '../model/record.ts';
import type { Usage } from '../model/namespaces.ts';
import type { Rejoiner } from '../rejoin/protocol.ts';
import {
  Coordinator,
  type ReadReply,
  type SiblingWriteReply,
  type WriteReply,
} from '../replication/protocol.ts';
import { Access, type AccessSettings, auditOf, type Login } from './access.ts';
import { finalFailure } from './attempts.ts';
import { batchHandlers } from './batch-routes.ts';
import {
  deleteAnswer,
  getAnswer,
  headAnswer,
  jsonAnswer,
  pageAnswer,
  putAnswer,
  rawAnswer,
  textAnswer,
  unchangedAnswer,
} from './http-answers.ts';
import {
  checkQuery,
  type GatewayLimits,
  type GatewaySettings,
  keyOfPath,
  parseEtags,
  parsePage,
  parsePut,
  parseTerms,
  type Terms,
  type TermsKind,
  type ValueToPut,
  wantsBytes,
} from './http-requests.ts';
import { FailedRequests } from './failed-requests.ts';
import { HttpAccess } from './http-access.ts';
import { type HttpRoute, problemAnswer, routesByName } from './http-routes.ts';
import { NamespaceGuard } from './namespace-guard.ts';
import { nodeHandlers } from './node-routes.ts';
import { KeyCalls } from './key-calls.ts';
import { KeyRouter } from './key-router.ts';
import { type HttpAnswer, HttpGateway, type HttpRequest } from './protocol.ts';
import { docsPage, openApiDocument } from './openapi.ts';
import { checkHeaders } from './route-headers.ts';
import { mayUseReserve } from './route-rights.ts';
import { RouteFigures } from './route-figures.ts';
import {
  type KeyPlace,
  prepareCas,
  prepareDelete,
  prepareIncrement,
  preparePut,
  prepareTtl,
  type SerialExchange,
} from './serial-requests.ts';
import { removal, SessionCalls } from './session-calls.ts';
import {
  checkPlainTerms,
  checkSiblingRoute,
  checkSiblingTerms,
  siblingHeadAnswer,
  siblingReadAnswer,
  siblingWriteAnswer,
  siblingWriteOf,
} from './sibling-requests.ts';
import { figuresTimeoutMs, type StateOptions } from './state-routes.ts';
import { openWatch, parseWatch } from './watch-routes.ts';

export interface HttpGatewayOptions extends GatewaySettings, StateOptions {
  /** Coordinators of this node. */
  readonly coordinatorShards: number;
  /** Absent: there is `default` alone. */
  readonly catalog?: Ref<Catalog>;
  /** Who may do what, and what is written down of it; absent: everybody may do everything. */
  readonly access?: AccessSettings;
  /** Says whether this node counts; absent: it does. */
  readonly rejoiner?: Ref<Rejoiner>;
  /** Seals session tokens and cursors; the same on every node. */
  readonly sealer: Sealer;
}

/** One request on its way. */
interface Exchange {
  readonly request: HttpRequest;
  readonly route: HttpRoute;
  /** Trace id of the client; empty: none. */
  readonly trace: string;
  readonly startedMs: number;
  /** When the edge stops waiting. */
  readonly edgeDeadlineMs: number;
  readonly answer: Deferred<HttpAnswer>;
  /** Known as soon as the headers are read. */
  terms: Terms | undefined;
  /** Level that the answer was made at; a session may have widened it. */
  level: Level | undefined;
  deadlineMs: number;
  coordinator: string;
  /** JSON, where the client asked how it was done. */
  explanation: string | undefined;
  /** The namespaces were read again for it. */
  isRefreshed: boolean;
  /** Who asks; undefined: nobody has to say. */
  login: Login | undefined;
}

/** Of the HTTP face, as its path says. */
const faceVersion = '1';
const htmlType = 'text/html; charset=utf-8';
/** What goes on while the node drains. */
const servedWhileDraining: ReadonlySet<string> = new Set([
  'livez',
  'readyz',
  'metrics',
  'openapi',
  'docs',
  'cluster-status',
  'ring',
]);

class HttpGatewayActor implements Handlers<HttpGateway> {
  readonly #ctx: Context<object, 'secrets'>;
  readonly #options: HttpGatewayOptions;
  readonly #router: KeyRouter;
  readonly #session: SessionCalls;
  readonly #figures: RouteFigures;
  readonly #failed: FailedRequests;
  readonly #guard: NamespaceGuard;
  readonly #access: HttpAccess | undefined;
  readonly #handlers: Readonly<Record<string, (exchange: Exchange) => void>>;
  #isDraining = false;
  #open = 0;
  #whenIdle: Deferred<object>[] = [];
  #nextScanShard = 0;
  /** Made when somebody asks first: everybody may ask, and they are large. */
  #document: HttpAnswer | undefined;
  #docs: HttpAnswer | undefined;

  constructor(ctx: Context<object, 'secrets'>, options: HttpGatewayOptions) {
    this.#ctx = ctx;
    this.#options = options;
    const { ring, coordinatorShards } = options;
    this.#router = new KeyRouter({ node: ctx.node, ring, coordinatorShards });
    const guard = new NamespaceGuard(ctx, options.catalog);
    this.#guard = guard;
    this.#access = createAccess(ctx, guard, options.access);
    this.#session = new SessionCalls(new KeyCalls({ ctx, router: this.#router, ring, guard }));
    this.#figures = new RouteFigures(ctx.metrics);
    this.#failed = new FailedRequests(ctx);
    this.#handlers = {
      put: (exchange) => this.#put(exchange),
      get: (exchange) => this.#get(exchange),
      head: (exchange) => this.#get(exchange),
      delete: (exchange) => this.#delete(exchange),
      cas: (exchange) => this.#decided(exchange, prepareCas),
      incr: (exchange) => this.#decided(exchange, prepareIncrement),
      ttl: (exchange) => this.#decided(exchange, prepareTtl),
      list: (exchange) => this.#page(exchange, 'list'),
      scan: (exchange) => this.#page(exchange, 'scan'),
      watch: (exchange) => this.#watch(exchange),
      ...batchHandlers<Exchange>({
        session: this.#session,
        limits: options.limits,
        begin: (exchange, kind) => this.#begin(exchange, kind),
        finish: (exchange, answer) => this.#finish(exchange, answer),
        settle: (exchange, render) => this.#settle(exchange, render),
      }),
      livez: (exchange) => this.#finish(exchange, jsonAnswer(this.#health('alive'))),
      readyz: (exchange) => this.#ready(exchange),
      openapi: (exchange) => {
        this.#document ??= jsonAnswer(openApiDocument(faceVersion));
        this.#finish(exchange, this.#document);
      },
      docs: (exchange) => {
        this.#docs ??= textAnswer(docsPage(), htmlType);
        this.#finish(exchange, this.#docs);
      },
      ...nodeHandlers<Exchange>({
        ...{ ctx, options, guard },
        finish: (exchange, answer) => this.#finish(exchange, answer),
      }),
    };
  }

  // ---- messages ----------------------------------------------------------------------------

  handle(request: HttpRequest, call: Call): HttpAnswer | Later<HttpAnswer> {
    const route = routesByName.get(request.route);
    if (route === undefined)
      return problemAnswer(failure('NOT_FOUND', { detail: 'there is nothing under this path' }));
    const exchange: Exchange = {
      request,
      route,
      trace: call.trace,
      startedMs: this.#ctx.clock.monotonicMs(),
      edgeDeadlineMs: call.deadlineMs,
      answer: this.#ctx.later<HttpAnswer>(),
      terms: undefined,
      level: undefined,
      deadlineMs: call.deadlineMs,
      coordinator: this.#ctx.node,
      explanation: undefined,
      isRefreshed: false,
      login: undefined,
    };
    this.#open += 1;
    this.#begun(exchange);
    return exchange.answer;
  }

  #begun(exchange: Exchange): void {
    try {
      this.#dispatch(exchange);
    } catch (error) {
      const problem = toFailure(error);
      // A defect is not answered but ends the actor: its state is suspect.
      if (problem.code === 'BUG') throw error;
      this.#refuse(exchange, problem);
    }
  }

  start(): void {
    this.#guard.start();
  }

  namespacesChanged(known: CatalogBytes): object {
    this.#guard.changed(known);
    return {};
  }

  usageChanged({ usages }: { readonly usages: readonly Usage[] }): void {
    this.#guard.counted(usages);
  }

  peersChanged({ peers }: PeerStates): void {
    this.#router.update(peers);
    this.#access?.access.peersChanged(peers);
  }

  /** Answers when the last open request is answered. */
  startDraining(): Later<object> | object {
    this.#isDraining = true;
    if (this.#open === 0) return {};
    const idle = this.#ctx.later<object>();
    this.#whenIdle.push(idle);
    return idle;
  }

  drain(): Later<void> | void {
    const idle = this.startDraining();
    // Settled with an empty object: nobody looks at it.
    return this.#open === 0 ? undefined : (idle as Later<void>);
  }

  // ---- one request -------------------------------------------------------------------------

  #dispatch(exchange: Exchange): void {
    const { request, route } = exchange;
    const { name, method, path, isServed } = route;
    const handler = this.#handlers[name];
    if (this.#access?.access.isGuarding === true) {
      if (!exchange.isRefreshed) this.#access.admit(request, route);
      exchange.login = this.#access.identify(request, route);
      this.#access.enter(exchange.login, route, request);
    }
    if (request.isReserved === true) this.#checkReserved(exchange);
    if (!isServed || handler === undefined)
      return this.#refuse(
        exchange,
        failure('NOT_IMPLEMENTED', { detail: `${method} ${path} is not there yet` }),
      );
    if (this.#isDraining && !servedWhileDraining.has(name))
      return this.#refuse(
        exchange,
        failure('DRAINING', { node: this.#ctx.node, detail: 'this node is stopping; ask another' }),
      );
    checkQuery(route, request.query);
    checkHeaders(route, request);
    handler(exchange);
  }

  #checkReserved({ login, route: { name } }: Exchange): void {
    const isRequired = this.#access?.access.isRequired === true;
    if (mayUseReserve(name, login?.rights.isAdmin, isRequired)) return;
    const detail =
      'all connections of this port are taken; the last ones are for health and administrators';
    throw new KvError('OVERLOADED', { retry_after: 1, detail });
  }

  /** Reads the headers; from here on the answer names its level and has its deadline. */
  #begin(exchange: Exchange, kind: TermsKind): Terms {
    const { defaults, ring, sealer } = this.#options;
    const namespaces = this.#guard.known;
    const nowMs = this.#ctx.clock.wallMicros() / 1000;
    const replicas = ring.replicationFactor;
    const settings = { namespaces, defaults, sealer, replicas, nowMs };
    const { login, route, request } = exchange;
    const terms = parseTerms(request, kind, settings, (namespace) =>
      this.#access?.checkKeys(login, route, request, namespace),
    );
    if (this.#guard.keepsSiblings(terms.namespace)) checkSiblingTerms(route.name, terms);
    else if (kind === 'write' || kind === 'serial') checkPlainTerms(request);
    exchange.terms = terms;
    exchange.level = terms.level;
    exchange.deadlineMs = Math.min(exchange.edgeDeadlineMs, exchange.startedMs + terms.timeoutMs);
    return terms;
  }

  #finish(exchange: Exchange, made: HttpAnswer): void {
    const { status, headers, body } = made;
    const { route, startedMs, terms, level, coordinator, explanation, answer } = exchange;
    this.#access?.ended(exchange.login, route, exchange.request, made);
    const nowMs = this.#ctx.clock.wallMicros() / 1000;
    const seconds = (this.#ctx.clock.monotonicMs() - startedMs) / 1000;
    this.#figures.record(route.name, status, seconds);
    this.#failed.ended(route.name, exchange.trace, made);
    answer.resolve({
      status,
      headers: {
        ...headers,
        'x-coordinator': coordinator,
        ...(explanation === undefined ? {} : { 'x-explain': explanation }),
        ...(level === undefined
          ? {}
          : { 'x-consistency-level': level, 'x-durability': this.#options.durability }),
        ...(terms === undefined
          ? {}
          : { 'x-session-token': terms.session.seal(this.#options.sealer, nowMs) }),
      },
      body,
      ...(exchange.login === undefined ? {} : { isLoggedIn: true }),
    });
    this.#open -= 1;
    if (this.#open > 0) return;
    for (const idle of this.#whenIdle) idle.resolve({});
    this.#whenIdle = [];
  }

  #refuse(exchange: Exchange, problem: Failure): void {
    if (this.#mayBeBehind(problem) && !exchange.isRefreshed) {
      // This node's copy may be behind. Nothing has happened yet that anyone could see.
      exchange.isRefreshed = true;
      return this.#guard.refresh((unknown) => {
        if (unknown === undefined) this.#begun(exchange);
        else this.#refuse(exchange, unknown);
      });
    }
    const { login, route, request } = exchange;
    const final = this.#access?.hidden(login, problem, route, request) ?? problem;
    this.#finish(exchange, problemAnswer(final));
  }

  /** The cluster may know what this node does not. */
  #mayBeBehind({ code }: Failure): boolean {
    return (
      code === 'NO_SUCH_NAMESPACE' || (code === 'UNAUTHORIZED' && this.#guard.known.epoch === 0)
    );
  }

  /** A request that is decided whatever its level. */
  #decided(
    exchange: Exchange,
    prepare: (request: HttpRequest, at: KeyPlace, limits: GatewayLimits) => SerialExchange,
  ): void {
    const terms = this.#begin(exchange, 'serial');
    const at = { namespace: terms.namespace, key: this.#keyOf(exchange) };
    this.#runSerial(exchange, terms, prepare(exchange.request, at, this.#options.limits));
  }

  #runSerial(exchange: Exchange, terms: Terms, { request, render }: SerialExchange): void {
    exchange.level = 'SERIAL';
    this.#session.serial(terms, request, exchange.deadlineMs, (problem, reply) => {
      if (reply === undefined) return this.#refuse(exchange, problem ?? failure('BUG'));
      exchange.coordinator = reply.coordinator;
      exchange.explanation = reply.explanation;
      this.#finish(exchange, render(reply));
    });
  }

  /** The answer to a request about one key, or the reason why there is none. */
  #settle<Reply extends { readonly coordinator: string; readonly explanation: string | undefined }>(
    exchange: Exchange,
    render: (reply: Reply) => HttpAnswer,
  ): Done<Reply> {
    return (problem, reply) => {
      if (problem !== undefined || reply === undefined)
        return this.#refuse(exchange, problem ?? failure('BUG'));
      exchange.coordinator = reply.coordinator;
      exchange.explanation = reply.explanation;
      this.#finish(exchange, render(reply));
    };
  }

  // ---- single keys -------------------------------------------------------------------------

  #keyOf({ request }: Exchange): Uint8Array {
    return keyOfPath(request, this.#options.limits);
  }

  #put(exchange: Exchange): void {
    const terms = this.#begin(exchange, 'write');
    const key = this.#keyOf(exchange);
    const at = { namespace: terms.namespace, key };
    const { limits } = this.#options;
    if (this.#guard.keepsSiblings(terms.namespace))
      return this.#putSibling(exchange, terms, key, parsePut(exchange.request, limits));
    const { operation, serial } = preparePut(exchange.request, at, terms, limits);
    if (serial !== undefined) return this.#runSerial(exchange, terms, serial);
    const { value, valueType, ttlMs } = operation;
    const write = { ...at, value, valueType, ttlMs };
    const done = this.#settle<WriteReply>(exchange, (reply) => putAnswer(key, reply));
    this.#session.write(terms, write, exchange.deadlineMs, done);
  }

  /** Absent: a delete. */
  #putSibling(exchange: Exchange, terms: Terms, key: Uint8Array, operation?: ValueToPut): void {
    const write = siblingWriteOf(exchange.request, terms, key, operation);
    const done = this.#settle<SiblingWriteReply & { readonly explanation: undefined }>(
      exchange,
      (reply) => siblingWriteAnswer(key, reply, operation === undefined),
    );
    this.#session.writeSibling(write, exchange.deadlineMs, done);
  }

  #delete(exchange: Exchange): void {
    const terms = this.#begin(exchange, 'write');
    const key = this.#keyOf(exchange);
    if (this.#guard.keepsSiblings(terms.namespace)) return this.#putSibling(exchange, terms, key);
    const at = { namespace: terms.namespace, key };
    const serial = prepareDelete(exchange.request, at, terms);
    if (serial !== undefined) return this.#runSerial(exchange, terms, serial);
    const done = this.#settle<WriteReply>(exchange, (reply) => deleteAnswer(key, reply));
    this.#session.write(terms, removal(terms.namespace, key), exchange.deadlineMs, done);
  }

  #get(exchange: Exchange): void {
    const terms = this.#begin(exchange, 'read');
    const key = this.#keyOf(exchange);
    const unless = parseEtags(exchange.request);
    const { request, route } = exchange;
    const done = this.#settle<ReadReply & { readonly level: Level }>(
      exchange,
      ({ record, nowMs, level }) => {
        exchange.level = level;
        if (record === undefined)
          return problemAnswer(failure('NOT_FOUND', { detail: 'there is no such key' }));
        if (unless(recordEtag(record))) return unchangedAnswer(record, nowMs);
        if (route.name === 'head')
          return (recordIsSet(record) ? siblingHeadAnswer : headAnswer)(record, nowMs);
        if (recordIsSet(record)) return siblingReadAnswer(key, record, nowMs, wantsBytes(request));
        return wantsBytes(request) ? rawAnswer(record, nowMs) : getAnswer(key, record, nowMs);
      },
    );
    this.#session.read(terms, key, exchange.deadlineMs, done);
  }

  // ---- pages -------------------------------------------------------------------------------

  #page(exchange: Exchange, kind: 'list' | 'scan'): void {
    const { namespace, session, level: asked } = this.#begin(exchange, 'scan');
    const level = session.pageLevel(asked);
    exchange.level = level;
    const { sealer, limits } = this.#options;
    const seal = { sealer, nowMs: this.#ctx.clock.wallMicros() / 1000 };
    const page = parsePage(exchange.request, kind, { namespace, limits, ...seal });
    const { scope, after, limit, withValues } = page;
    if (withValues && this.#guard.keepsSiblings(namespace)) checkSiblingRoute('values');
    const shard = this.#nextScanShard;
    this.#nextScanShard = (shard + 1) % this.#options.coordinatorShards;
    const { ask, clock, node } = this.#ctx;
    const read = (): void =>
      ask(
        refTo(Coordinator, node, shard),
        'scan',
        { namespace, prefix: scope.filter, after, limit, level },
        exchange.deadlineMs - clock.monotonicMs(),
        (problem, reply) => {
          if (reply === undefined)
            return this.#refuse(exchange, finalFailure('read', problem ?? failure('BUG')));
          session.sawPage(reply.records, level);
          this.#finish(exchange, pageAnswer({ ...reply, withValues }, scope, seal));
        },
      );
    this.#guard.admit(namespace, (refusal) => {
      if (refusal === undefined) read();
      else this.#refuse(exchange, refusal);
    });
  }

  #watch(exchange: Exchange): void {
    const { namespace } = this.#begin(exchange, 'scan');
    exchange.level = undefined;
    const { limits } = this.#options;
    const request = parseWatch(exchange.request, namespace, limits, exchange.login);
    openWatch(this.#ctx, request, (answer) => this.#finish(exchange, answer));
  }

  // ---- the node and the cluster ------------------------------------------------------------

  #health(status: string): object {
    return { status, node: this.#ctx.node, durability: this.#options.durability };
  }

  #ready(exchange: Exchange): void {
    const { ask, node } = this.#ctx;
    const { rejoiner } = this.#options;
    const refuse = (detail: string): void =>
      this.#refuse(exchange, failure('DRAINING', { node, detail }));
    if (this.#isDraining) return refuse('this node is stopping');
    if (!this.#router.knowsPeers) return refuse('this node is starting');
    const ready = (): void => this.#finish(exchange, jsonAnswer(this.#health('ready')));
    if (rejoiner === undefined) return ready();
    ask(rejoiner, 'status', {}, figuresTimeoutMs, (problem, reply) => {
      if (reply === undefined) return this.#refuse(exchange, problem ?? failure('BUG'));
      if (reply.phase === 'whole') return ready();
      refuse(
        reply.phase === 'asking'
          ? 'this node is new: it waits for the others to say whether they know it'
          : `this node has lost its data and is filled; ${reply.detail}`,
      );
    });
  }
}

function createAccess(
  ctx: Context,
  guard: NamespaceGuard,
  settings: AccessSettings | undefined,
): HttpAccess | undefined {
  if (settings === undefined) return undefined;
  const { clock } = ctx;
  return new HttpAccess(new Access(clock, guard, settings), { guard, audit: auditOf(ctx), clock });
}

export const httpGateway = actor({
  protocol: HttpGateway,
  needs: ['secrets'],
  create: (ctx: Context<object, 'secrets'>, options: HttpGatewayOptions) =>
    new HttpGatewayActor(ctx, options),
});
