// Batches over HTTP: many operations on keys in one request. As a rule each has an outcome of its own;
// with `atomic` all writes of the batch happen or, in the end, none of them does (BL-5).

import type { Done } from '../../runtime/actor.ts';
import type { Level } from '../model/consistency.ts';
import type { ReadReply, WriteReply } from '../replication/protocol.ts';
import { batchGetAnswer, batchWriteAnswer } from './http-answers.ts';
import {
  type GatewayLimits,
  parseBatchKeys,
  parseBatchPut,
  type Terms,
  type TermsKind,
} from './http-requests.ts';
import type { HttpAnswer, HttpRequest } from './protocol.ts';
import { runAll } from './run-all.ts';
import { type AtomicReply, type BatchWrite, removal, type SessionCalls } from './session-calls.ts';

/** What every request of a batch has. */
interface BatchExchange {
  readonly request: HttpRequest;
  /** Monotonic. */
  readonly deadlineMs: number;
  /** That the answer names. */
  level: Level | undefined;
}

/** What the gateway lends. */
export interface BatchTools<Exchange extends BatchExchange> {
  readonly session: SessionCalls;
  readonly limits: GatewayLimits;
  readonly begin: (exchange: Exchange, kind: TermsKind) => Terms;
  readonly finish: (exchange: Exchange, answer: HttpAnswer) => void;
  readonly settle: (
    exchange: Exchange,
    render: (reply: AtomicReply) => HttpAnswer,
  ) => Done<AtomicReply>;
}

/** Handlers by the names of their routes. */
export function batchHandlers<Exchange extends BatchExchange>(
  tools: BatchTools<Exchange>,
): Readonly<Record<string, (exchange: Exchange) => void>> {
  const { limits, begin } = tools;
  return {
    'batch-put': (exchange) => {
      const terms = begin(exchange, 'write');
      const { namespace } = terms;
      const { items, isAtomic } = parseBatchPut(exchange.request, limits);
      const writes = items.map((operation) => ({ namespace, ...operation }));
      writeAll(tools, exchange, terms, { writes, isAtomic });
    },
    'batch-delete': (exchange) => {
      const terms = begin(exchange, 'write');
      const { items, isAtomic } = parseBatchKeys(exchange.request, { limits, isRead: false });
      const writes = items.map((key) => ({ ...removal(terms.namespace, key), ifNotExists: false }));
      writeAll(tools, exchange, terms, { writes, isAtomic });
    },
    'batch-get': (exchange) => {
      const terms = begin(exchange, 'read');
      const { items } = parseBatchKeys(exchange.request, { limits, isRead: true });
      runAll<Uint8Array, ReadReply>(
        items,
        (key, done) => tools.session.read(terms, key, exchange.deadlineMs, done),
        (outcomes) => tools.finish(exchange, batchGetAnswer(items, outcomes, limits.batchBytes)),
      );
    },
  };
}

function writeAll<Exchange extends BatchExchange>(
  { session, finish, settle }: BatchTools<Exchange>,
  exchange: Exchange,
  terms: Terms,
  { writes, isAtomic }: { readonly writes: readonly BatchWrite[]; readonly isAtomic: boolean },
): void {
  const keys = writes.map(({ key }) => key);
  const isDelete = writes[0]?.value === undefined;
  if (isAtomic) {
    const level = terms.atomicLevel;
    exchange.level = level;
    const done = settle(exchange, ({ replies }) =>
      batchWriteAnswer(
        keys,
        replies.map((reply) => ({ reply })),
        isDelete,
      ),
    );
    return session.writeAtomic({ ...terms, level }, writes, exchange.deadlineMs, done);
  }
  runAll<BatchWrite, WriteReply>(
    writes,
    (write, done) => session.writeOne(exchange, terms, write, done),
    (outcomes) => finish(exchange, batchWriteAnswer(keys, outcomes, isDelete)),
  );
}
