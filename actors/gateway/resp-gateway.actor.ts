// Answers the commands of Redis connections: checks them against the table, runs them through
// coordinators, renders the outcome. Batches come from the edge, one of each connection at a time;
// resp-runner.ts keeps their order. A hot path: callbacks, no sessions and no promises.
//
// Every command gets exactly one answer, at the latest at its deadline; an error never ends the
// connection. What a connection has set lives here: after a restart of this actor the edge is told
// to close the connections that it does not know.

import {
  actor,
  type Context,
  type Deferred,
  type Later,
  type Ref,
  refTo,
} from '../../runtime/actor.ts';
import { failure, KvError } from '../../runtime/errors.ts';
import { utf8 } from '../../runtime/bytes.ts';
import type { Handlers, Tell } from '../../runtime/protocol.ts';
import type { Catalog, CatalogBytes } from '../catalog/protocol.ts';
import type { Gossiper, PeerStates } from '../membership/protocol.ts';
import type { Usage } from '../model/namespaces.ts';
import type { Ring } from '../model/ring.ts';
import { Coordinator } from '../replication/protocol.ts';
import { Access, type AccessSettings, auditOf } from './access.ts';
import { defaultLevels, type GatewaySettings } from './http-requests.ts';
import { NamespaceGuard } from './namespace-guard.ts';
import { KeptBytes } from './kept-bytes.ts';
import { KeyCalls } from './key-calls.ts';
import { KeyRouter } from './key-router.ts';
import {
  type RespAnswers,
  type RespBatch,
  type RespConnectionStart,
  RespGateway,
} from './protocol.ts';
import { RespAccess } from './resp-access.ts';
import { printableOf, type RespCall } from './resp-call.ts';
import { arityHolds, unknownCommand } from './resp-commands.ts';
import { RespConnection } from './resp-connection.ts';
import { clusterHandlers } from './resp-cluster.ts';
import { copyHandlers } from './resp-copies.ts';
import { flushHandlers } from './resp-flush.ts';
import { genericHandlers } from './resp-generic.ts';
import { fail, failThrown, RespKeys } from './resp-keys.ts';
import { errorReply, failureReply, type Reply, tooLargeReply } from './resp-replies.ts';
import { lookHandlers } from './resp-looks.ts';
import { isSlow, SlowCommands, slowHandlers } from './resp-slow.ts';
import { RespRunner } from './resp-runner.ts';
import { serverHandlers } from './resp-server.ts';
import type { RespHandler, RespHandlers, RespServices } from './resp-services.ts';
import { sessionHandlers } from './resp-session.ts';
import { stringHandlers } from './resp-strings.ts';
import { atomicOf, queueCommand, transactionHandlers } from './resp-transactions.ts';
import { SessionCalls } from './session-calls.ts';
import { type SerialOperations, serialOperationsOf } from './serial-operations.ts';

export interface RespGatewayOptions extends GatewaySettings {
  readonly ring: Ring;
  /** Coordinators of this node. */
  readonly coordinatorShards: number;
  readonly gossiper: Ref<Gossiper>;
  /** Absent: there is `default` alone. */
  readonly catalog?: Ref<Catalog>;
  /** Who may do what, and what is written down of it; absent: everybody may do everything. */
  readonly access?: AccessSettings;
  /** Default: those of the cluster. */
  readonly serial?: SerialOperations;
}

const handlers: RespHandlers = {
  ...stringHandlers,
  ...genericHandlers,
  ...flushHandlers,
  ...sessionHandlers,
  ...serverHandlers,
  ...transactionHandlers,
  ...copyHandlers,
  ...clusterHandlers,
  ...lookHandlers,
  ...slowHandlers,
};

/** What goes on while the node drains: nothing of it touches a key. */
const servedWhileDraining: ReadonlySet<string> = new Set(['ping', 'quit', 'hello', 'client']);
/** Arguments of an unknown command that its error shows. */
const shownArgumentsLength = 128;

interface Own {
  readonly wake: Tell<object>;
}

class RespGatewayActor implements Handlers<RespGateway>, Handlers<Own> {
  readonly #ctx: Context<Own>;
  readonly #options: RespGatewayOptions;
  readonly #router: KeyRouter;
  readonly #runner: RespRunner;
  readonly #guard: NamespaceGuard;
  readonly #services: RespServices;
  /** Absent: nothing is asked before a command. */
  readonly #access: RespAccess | undefined;
  readonly #connections = new Map<number, RespConnection>();
  readonly #slow = new SlowCommands();
  readonly #kept = new KeptBytes();
  #commands = 0;
  #errors = 0;
  #isDraining = false;
  #whenIdle: Deferred<object>[] = [];
  #nextShard = 0;

  constructor(ctx: Context<Own>, options: RespGatewayOptions) {
    this.#ctx = ctx;
    this.#options = options;
    const { ring, coordinatorShards, gossiper } = options;
    this.#router = new KeyRouter({ node: ctx.node, ring, coordinatorShards });
    this.#runner = new RespRunner({
      start: (call) => this.#start(call),
      nowMs: ctx.clock.monotonicMs,
      isLoggedIn: (connection) => this.#access?.isLoggedIn(connection) ?? true,
      timeouts: options.defaults,
      wakeSoon: () => ctx.toSelfLater('wake', {}),
      onIdle: () => this.#becameIdle(),
      onEnded: (call, tookMs) => {
        if (isSlow(tookMs)) this.#slow.ended(call, tookMs, ctx.clock.wallMicros());
      },
    });
    const guard = new NamespaceGuard(ctx, options.catalog);
    this.#guard = guard;
    const access = createAccess(ctx, guard, options.access);
    this.#access = access?.access.isGuarding === true ? access : undefined;
    const calls = new KeyCalls({ ctx, router: this.#router, ring, guard });
    this.#services = {
      ctx,
      settings: options,
      guard,
      access,
      ring,
      gossiper,
      anyCoordinator: () => this.#anyCoordinator(),
      calls,
      keys: new RespKeys({ calls, sessions: new SessionCalls(calls), limits: options.limits }),
      serial: options.serial ?? serialOperationsOf(calls),
      atomic: atomicOf(() => this.#services),
      handle,
      slow: this.#slow,
      places: new Map(),
      connections: this.#connections,
      commandsServed: () => this.#commands,
    };
    this.#addFigures();
  }

  #addFigures(): void {
    const { metrics } = this.#ctx;
    metrics.gauge('kvd_resp_connections', 'Redis connections', () => this.#connections.size);
    metrics.gauge(
      'kvd_resp_commands_in_flight',
      'Redis commands that run',
      () => this.#runner.inFlight,
    );
    metrics.gauge('kvd_resp_commands_total', 'Redis commands taken', () => this.#commands);
    metrics.gauge('kvd_resp_errors_total', 'Redis commands refused', () => this.#errors);
  }

  // ---- messages ----------------------------------------------------------------------------

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

  opened(start: RespConnectionStart): void {
    const { defaults } = this.#options;
    const [usual] = this.#guard.known.document.namespaces;
    const { readLevel, writeLevel } =
      usual === undefined ? defaults : defaultLevels(usual, defaults, 'read');
    const nowMs = this.#ctx.clock.monotonicMs();
    const usualLevels = { namespace: 0, readLevel, writeLevel };
    const connection = new RespConnection(start, usualLevels, nowMs, this.#kept);
    this.#connections.set(start.connection, connection);
  }

  closed({ connection }: { readonly connection: number }): void {
    this.#connections.get(connection)?.closed();
    this.#connections.delete(connection);
  }

  run({ connection: id, commands }: RespBatch): Later<RespAnswers> | RespAnswers {
    const connection = this.#connections.get(id);
    if (connection === undefined || commands.length === 0)
      return {
        bytes: utf8.encode(unknownConnection),
        count: commands.length,
        isLast: true,
        isLoggedIn: false,
      };
    const answer = this.#ctx.later<RespAnswers>();
    this.#runner.run(connection, commands, answer);
    return answer;
  }

  wake(): void {
    this.#runner.wake();
  }

  peersChanged({ peers }: PeerStates): void {
    this.#router.update(peers);
    this.#access?.access.peersChanged(peers);
  }

  startDraining(): Later<object> | object {
    this.#isDraining = true;
    if (this.#runner.open === 0) return {};
    const idle = this.#ctx.later<object>();
    this.#whenIdle.push(idle);
    return idle;
  }

  drain(): Later<void> | void {
    const idle = this.startDraining();
    // Settled with an empty object: nobody looks at it.
    return this.#runner.open === 0 ? undefined : (idle as Later<void>);
  }

  #becameIdle(): void {
    for (const idle of this.#whenIdle) idle.resolve({});
    this.#whenIdle = [];
  }

  // ---- one command -------------------------------------------------------------------------

  #start(call: RespCall): void {
    this.#commands += 1;
    const refusal = this.#refusalOf(call);
    if (refusal !== undefined) this.#errors += 1;
    if (queueCommand(call, refusal)) return;
    if (refusal !== undefined) {
      // Refused or not, EXEC ends what MULTI began.
      if (call.spec.name === 'exec') call.connection.endTransaction();
      return call.answer(refusal);
    }
    try {
      handle(call, this.#services);
    } catch (error) {
      if (!(error instanceof KvError)) throw error;
      failThrown(call, error);
    }
  }

  #refusalOf(call: RespCall): Reply | undefined {
    const { spec, args } = call;
    const tooFast = this.#access?.tooFast(call);
    if (spec === unknownCommand) return this.#unknown(call, tooFast);
    if (tooFast !== undefined) return tooFast;
    if (!arityHolds(spec, args.length) && !call.isTooLarge)
      return errorReply(`ERR wrong number of arguments for '${spec.name}' command`);
    if (this.#access !== undefined) {
      const refusal = this.#access.refusalOf(call);
      if (refusal !== undefined) return refusal;
    }
    if (spec.missing !== undefined)
      return failureReply(failure('NOT_IMPLEMENTED', { detail: notServed(call) }));
    if (call.isTooLarge) {
      const { valueBytes } = this.#options.limits;
      const detail = `an argument of '${spec.name}' is over its limit (a value may have ${valueBytes} bytes)`;
      return tooLargeReply(detail);
    }
    if (this.#isDraining && !servedWhileDraining.has(spec.name)) {
      const detail = 'this node is stopping; ask another';
      return failureReply(failure('DRAINING', { node: this.#ctx.node, detail }));
    }
    return undefined;
  }

  /** SE-8: a browser's request ends the connection. */
  #unknown(call: RespCall, tooFast: Reply | undefined): Reply {
    const name = printableOf(call.arg(0));
    if (isHttp(name)) {
      call.batch.isCut = true;
      call.batch.isLast = true;
      return errorReply('ERR this is the Redis protocol, not HTTP');
    }
    if (tooFast !== undefined) return tooFast;
    let shown = '';
    for (const argument of call.args.slice(1)) {
      if (shown.length > shownArgumentsLength) break;
      shown += `'${printableOf(argument)}' `;
    }
    return errorReply(`ERR unknown command '${name}', with args beginning with: ${shown}`);
  }

  #anyCoordinator(): Ref<Coordinator> {
    const shard = this.#nextShard;
    this.#nextShard = (shard + 1) % this.#options.coordinatorShards;
    return refTo(Coordinator, this.#ctx.node, shard);
  }
}

function createAccess(
  ctx: Context,
  guard: NamespaceGuard,
  settings: AccessSettings | undefined,
): RespAccess | undefined {
  if (settings === undefined) return undefined;
  return new RespAccess(new Access(ctx.clock, guard, settings), auditOf(ctx));
}

const handle: RespHandler = (call, services) => {
  const handler = handlers[call.spec.name];
  if (handler === undefined) fail(call, failure('BUG'));
  else handler(call, services);
};

const unknownConnection = '-ERR this connection was lost inside the server: connect again\r\n';

const notServed = ({ spec }: RespCall): string =>
  `${spec.name.toUpperCase()} needs ${spec.missing ?? ''}, not there yet`;

/** First words of HTTP requests, as a browser can be made to send them. */
const isHttp = (name: string): boolean => /^(post|get|put|head|options|host:)$/i.test(name);

export const respGateway = actor({
  protocol: RespGateway,
  create: (ctx: Context<Own>, options: RespGatewayOptions) => new RespGatewayActor(ctx, options),
});
