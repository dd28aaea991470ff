// One request of a simulated client to the HTTP face of a node, written down as an operation. The
// outcome of an answer is decided here, exactly by the table of rule 2.8: it is part of the client
// under test.

import { HttpGateway, type HttpAnswer } from '../../actors/gateway/protocol.ts';
import type { Etag } from '../../actors/model/record.ts';
import { refTo } from '../../runtime/actor.ts';
import { noBytes, utf8 } from '../../runtime/bytes.ts';
import { errorTable, isErrorCode } from '../../runtime/errors.ts';
import type { ClientAnswer, SimCluster } from '../cluster.ts';
import {
  type History,
  type Operation,
  type OperationKind,
  type Phase,
  valueText,
} from '../history.ts';

export interface Request {
  readonly kind: OperationKind;
  readonly key: string;
  readonly node: string;
  readonly level: string;
  readonly value?: Uint8Array | undefined;
  readonly timeoutMs: number;
  /** Name of the route; by default that of the kind. */
  readonly route?: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  /** Of the path; by default the key. */
  readonly params?: Readonly<Record<string, string>>;
  readonly session?: number;
  readonly ttlMs?: number;
  /** Of a cas. */
  readonly expected?: string;
}

/** Who asks: a process of the history, and the operation's place in its workload. */
export interface Asker {
  readonly process: number;
  readonly client: number;
  readonly turn: number;
}

export interface Performed {
  readonly operation: Operation;
  /** Undefined: none came. */
  readonly answer: HttpAnswer | undefined;
}

export class HttpClient {
  readonly #cluster: SimCluster;
  readonly #history: History;
  readonly #workload: string;
  phase: Phase = 'load';

  constructor(cluster: SimCluster, history: History, workload: string) {
    this.#cluster = cluster;
    this.#history = history;
    this.#workload = workload;
  }

  /** Runs one operation and writes it down. */
  async perform(asker: Asker, request: Request): Promise<Performed> {
    const index = this.begin(asker, request);
    const answer = await this.send(request);
    const operation = this.end(index, answer.kind, classify(request.kind, answer));
    return { operation, answer: answer.kind === 'reply' ? answer.reply : undefined };
  }

  /** Writes down that an operation starts; its index. For operations of several requests. */
  begin(asker: Asker, request: Request): number {
    const { kind, key, node, level, value, session, ttlMs, expected } = request;
    return this.#history.invoke({
      ...asker,
      workload: this.#workload,
      kind,
      key,
      node,
      level,
      phase: this.phase,
      invokedMs: this.#cluster.world.nowMs,
      value: value === undefined ? undefined : valueText(value),
      ...(session === undefined ? {} : { session }),
      ...(ttlMs === undefined ? {} : { ttlMs }),
      ...(expected === undefined ? {} : { expected: valueText(utf8.encode(expected)) }),
    });
  }

  /** Writes down how an operation ended. */
  end(index: number, how: ClientAnswer<HttpAnswer>['kind'], classified: Classified): Operation {
    const returnedMs = how === 'lost' ? undefined : this.#cluster.world.nowMs;
    this.#history.complete(index, { ...classified, returnedMs });
    return this.#history.operations[index] as Operation;
  }

  /** One request, not written down. */
  send(request: Request): Promise<ClientAnswer<HttpAnswer>> {
    const { kind, key, node, value, timeoutMs } = request;
    return this.#cluster.ask(
      refTo(HttpGateway, node),
      'handle',
      {
        route: request.route ?? kind,
        params: request.params ?? { key },
        query: request.query ?? {},
        headers: { ...headersOf(request), ...request.headers },
        body: value ?? noBytes,
      },
      timeoutMs,
    );
  }
}

function headersOf({ kind, level, timeoutMs }: Request): Record<string, string> {
  const bytes = 'application/octet-stream';
  return {
    'consistency-level': level,
    'x-deadline-ms': String(Math.max(1, Math.round(timeoutMs * 0.9))),
    ...(kind === 'put' ? { 'content-type': bytes } : {}),
    ...(kind === 'get' ? { accept: bytes } : {}),
  };
}

export type Classified = Pick<Operation, 'outcome' | 'code'> &
  Partial<Pick<Operation, 'value' | 'etag' | 'keys' | 'coordinator' | 'wasMet' | 'told'>>;

/** Rule 2.8. */
export function classify(kind: OperationKind, answer: ClientAnswer<HttpAnswer>): Classified {
  if (answer.kind === 'refused') return { outcome: 'fail', code: 'REFUSED' };
  if (answer.kind === 'lost') return { outcome: 'info', code: 'LOST' };
  if (answer.kind === 'failure') return failed(answer.failure.code);
  const { status, headers, body } = answer.reply;
  if (status >= 200 && status < 300) {
    const value = kind === 'get' ? { value: valueText(body) } : {};
    return { outcome: 'ok', code: undefined, ...value, ...seenIn(headers) };
  }
  const code = codeOf(body) ?? `HTTP ${status}`;
  if (status === 404 && kind === 'get' && code === 'NOT_FOUND')
    return { outcome: 'ok', code: undefined };
  if (status === 409) return { outcome: 'ok', code };
  return failed(code);
}

function seenIn(headers: HttpAnswer['headers']): Partial<Pick<Operation, 'etag' | 'coordinator'>> {
  const etag = parseEtag(headers['etag']);
  const coordinator = headers['x-coordinator'];
  return {
    ...(etag === undefined ? {} : { etag }),
    ...(coordinator === undefined ? {} : { coordinator }),
  };
}

function failed(code: string): Classified {
  const effect = isErrorCode(code) ? errorTable[code].effect : 'unknown';
  return { outcome: effect === 'none' ? 'fail' : 'info', code };
}

function codeOf(body: Uint8Array): string | undefined {
  try {
    const { code } = JSON.parse(utf8.decode(body)) as { code?: unknown };
    return typeof code === 'string' ? code : undefined;
  } catch {
    return undefined;
  }
}

/** The three parts of an etag header. */
export function parseEtag(header: string | undefined): Etag | undefined {
  const parts = header?.replaceAll('"', '').split('-');
  if (parts?.length !== 3) return undefined;
  const [hlc, writer, incarnation] = parts.map((part) => Number.parseInt(part, 36));
  if (hlc === undefined || writer === undefined || incarnation === undefined) return undefined;
  return Number.isNaN(hlc + writer + incarnation) ? undefined : { hlc, writer, incarnation };
}
