// How a watch begins over HTTP: the question is checked here and given to the watcher of this node.
// The answer is the beginning of a stream; whoever holds the socket asks the watcher for the rest of
// it, under the number in `X-Watch`.

import type { BaseContext } from '../../runtime/actor.ts';
import { refTo } from '../../runtime/actor.ts';
import { noBytes } from '../../runtime/bytes.ts';
import { failure } from '../../runtime/errors.ts';
import type { Login } from './access.ts';
import { type GatewayLimits, parseFlag, parsePrefix } from './http-requests.ts';
import { problemAnswer } from './http-routes.ts';
import {
  type HttpAnswer,
  type HttpRequest,
  Watcher,
  type WatchReader,
  type WatchRequest,
} from './protocol.ts';

const openTimeoutMs = 5000;

/** BAD_REQUEST where a field is wrong; an event id is checked by the watcher. */
export function parseWatch(
  request: HttpRequest,
  namespace: number,
  limits: GatewayLimits,
  login: Login | undefined,
): WatchRequest {
  const { query, headers } = request;
  const values = query['values'];
  return {
    namespace,
    prefix: parsePrefix(request, limits),
    withValues: values === undefined || parseFlag(values, 'values'),
    lastEventId: headers['last-event-id'] ?? query['last_event_id'] ?? '',
    ...(login === undefined ? {} : { reader: readerOf(login) }),
  };
}

const readerOf = ({ user, tokenId, epoch, expiresMs }: Login): WatchReader => ({
  ...{ user, tokenId, epoch, expiresMs },
});

export function openWatch(
  { ask, node }: Pick<BaseContext<object>, 'ask' | 'node'>,
  request: WatchRequest,
  answer: (answer: HttpAnswer) => void,
): void {
  ask(refTo(Watcher, node), 'open', request, openTimeoutMs, (problem, reply) => {
    if (reply === undefined) return answer(problemAnswer(problem ?? failure('BUG')));
    const headers = {
      'content-type': 'text/event-stream',
      'cache-control': 'no-store',
      'x-watch': String(reply.watch),
    };
    answer({ status: 200, headers, body: noBytes });
  });
}
