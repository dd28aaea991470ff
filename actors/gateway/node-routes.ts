// The routes of the HTTP face that are about nodes and the cluster, not about keys: their handlers put
// together, with the tools that they need and the time that each request has.

import type { Context } from '../../runtime/actor.ts';
import type { CatalogBytes } from '../catalog/protocol.ts';
import type { Login } from './access.ts';
import { adminHandlers } from './admin-routes.ts';
import type { NamespaceGuard } from './namespace-guard.ts';
import { namespaceHandlers } from './namespace-routes.ts';
import type { NodeHandlers } from './node-answers.ts';
import type { HttpAnswer, HttpRequest } from './protocol.ts';
import { snapshotHandlers } from './snapshot-routes.ts';
import { stateHandlers, type StateOptions } from './state-routes.ts';
import { userHandlers } from './user-routes.ts';

/** A request that names no deadline ends then. */
const usualTimeoutMs = 15_000;

/** What every request has. Times are monotonic milliseconds. */
interface NodeRequest {
  readonly request: HttpRequest;
  readonly startedMs: number;
  /** When the edge stops waiting. */
  readonly edgeDeadlineMs: number;
  readonly login: Login | undefined;
}

export interface NodeRoutesTools<Exchange extends NodeRequest> {
  readonly ctx: Pick<Context<object, 'secrets'>, 'node' | 'ask' | 'clock' | 'secrets'>;
  readonly options: StateOptions;
  readonly guard: NamespaceGuard;
  readonly finish: (exchange: Exchange, answer: HttpAnswer) => void;
}

/** Handlers by the names of their routes. */
export function nodeHandlers<Exchange extends NodeRequest>({
  ctx,
  options,
  guard,
  finish,
}: NodeRoutesTools<Exchange>): Readonly<Record<string, (exchange: Exchange) => void>> {
  const { node, ask, clock, secrets } = ctx;
  const { members, replicationFactor: copies } = options.ring;
  const tools = { node, ask, members, copies };
  const nowMs = (): number => clock.wallMicros() / 1000;
  const changed = (known: CatalogBytes): void => guard.changed(known);
  const handlers: NodeHandlers = {
    ...snapshotHandlers(tools),
    ...adminHandlers(tools),
    ...namespaceHandlers(tools),
    ...stateHandlers({ ...tools, namespaces: () => guard.known }, options),
    ...userHandlers({ ...tools, secretBytes: secrets, nowMs, changed }),
  };
  return Object.fromEntries(
    Object.entries(handlers).map(([name, run]) => [
      name,
      (exchange) =>
        run({
          request: exchange.request,
          login: exchange.login,
          timeoutMs: deadlineOf(exchange) - clock.monotonicMs(),
          answer: (answer) => finish(exchange, answer),
        }),
    ]),
  );
}

const deadlineOf = ({ request, startedMs, edgeDeadlineMs }: NodeRequest): number =>
  request.headers['x-deadline-ms'] === undefined
    ? Math.min(edgeDeadlineMs, startedMs + usualTimeoutMs)
    : edgeDeadlineMs;
