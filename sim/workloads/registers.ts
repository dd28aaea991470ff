// Clients that put, get and delete a few keys at different levels through any node, and write down
// what they did and saw. Values are unique where their size allows it.
//
// The outcome of an answer is decided here, exactly by the table of rule 2.8: it is part of the
// client under test. A client that cannot know the outcome is retired and replaced by a new one.

import { HttpGateway, type HttpAnswer } from '../../actors/gateway/protocol.ts';
import type { Etag } from '../../actors/model/record.ts';
import { refTo } from '../../runtime/actor.ts';
import { noBytes, utf8 } from '../../runtime/bytes.ts';
import { errorTable, isErrorCode } from '../../runtime/errors.ts';
import type { Prng } from '../../runtime/prng.ts';
import type { ClientAnswer, SimCluster } from '../cluster.ts';
import {
  type History,
  type Operation,
  type OperationKind,
  type Phase,
  valueText,
} from '../history.ts';

export interface RegisterOptions {
  readonly clients: number;
  readonly keys: readonly string[];
  /** Sizes of values, bytes; drawn for each put. */
  readonly valueBytes: readonly number[];
  /** Levels for reads and writes; drawn for each operation. */
  readonly levels: readonly string[];
  /** Relative weights of the three kinds. */
  readonly weights: Readonly<Record<OperationKind, number>>;
  /** Mean pause of a client between two operations, milliseconds. */
  readonly thinkMs: number;
  /** How long a client waits for its answer, milliseconds. */
  readonly timeoutMs: number;
}

export interface Request {
  readonly kind: OperationKind;
  readonly key: string;
  readonly node: string;
  readonly level: string;
  readonly value: Uint8Array | undefined;
  readonly timeoutMs: number;
}

export class Registers {
  readonly #cluster: SimCluster;
  readonly #options: RegisterOptions;
  readonly #history: History;
  readonly #random: Prng;
  #nextProcess = 0;
  #writes = 0;
  #phase: Phase = 'load';
  #isStopping = false;

  constructor(cluster: SimCluster, history: History, options: RegisterOptions) {
    this.#cluster = cluster;
    this.#history = history;
    this.#options = options;
    this.#random = cluster.world.random.fork('workload');
  }

  set phase(phase: Phase) {
    this.#phase = phase;
  }

  /** Starts all clients; resolves when `stop` was called and the last one has ended. */
  async run(): Promise<void> {
    const { clients } = this.#options;
    await Promise.all(Array.from({ length: clients }, (_, i) => this.#client(i)));
  }

  stop(): void {
    this.#isStopping = true;
  }

  async #client(index: number): Promise<void> {
    const random = this.#random.fork(`client-${index}`);
    let process = this.#newProcess();
    while (!this.#isStopping) {
      await this.#cluster.world.sleep(random.exponential(this.#options.thinkMs));
      const outcome = await this.perform(process, this.#draw(random));
      if (outcome.outcome === 'info') process = this.#newProcess();
    }
  }

  #newProcess(): number {
    this.#nextProcess += 1;
    return this.#nextProcess;
  }

  #draw(random: Prng): Request {
    const { keys, levels, timeoutMs } = this.#options;
    const kind = this.#drawKind(random);
    return {
      kind,
      key: random.pick(keys),
      node: random.pick(this.#cluster.names),
      level: random.pick(levels),
      value: kind === 'put' ? this.#newValue(random) : undefined,
      timeoutMs,
    };
  }

  #drawKind(random: Prng): OperationKind {
    const { weights } = this.#options;
    let at = random.float() * (weights.put + weights.get + weights.delete);
    for (const kind of ['put', 'get', 'delete'] as const) {
      if (at < weights[kind]) return kind;
      at -= weights[kind];
    }
    return 'get';
  }

  #newValue(random: Prng): Uint8Array {
    this.#writes += 1;
    const value = new Uint8Array(random.pick(this.#options.valueBytes)).fill(0x2e);
    value.set(utf8.encode(`w${this.#writes}`).subarray(0, value.length));
    return value;
  }

  /** Runs one operation and writes it down. */
  async perform(process: number, request: Request): Promise<Operation> {
    const { world } = this.#cluster;
    const { kind, key, node, level, value, timeoutMs } = request;
    const index = this.#history.invoke({
      kind,
      key,
      process,
      node,
      level,
      phase: this.#phase,
      invokedMs: world.nowMs,
      value: value === undefined ? undefined : valueText(value),
    });
    const answer = await this.#cluster.ask(
      refTo(HttpGateway, node),
      'handle',
      {
        route: kind,
        params: { key },
        query: {},
        headers: headersOf(request),
        body: value ?? noBytes,
      },
      timeoutMs,
    );
    this.#history.complete(index, {
      ...classify(kind, answer),
      returnedMs: answer.kind === 'lost' ? undefined : world.nowMs,
    });
    return this.#history.operations[index] as Operation;
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

type Classified = Pick<Operation, 'outcome' | 'code'> & Partial<Pick<Operation, 'value' | 'etag'>>;

/** Rule 2.8. */
export function classify(kind: OperationKind, answer: ClientAnswer<HttpAnswer>): Classified {
  if (answer.kind === 'refused') return { outcome: 'fail', code: 'REFUSED' };
  if (answer.kind === 'lost') return { outcome: 'info', code: 'LOST' };
  if (answer.kind === 'failure') return failed(answer.failure.code);
  const { status, headers, body } = answer.reply;
  if (status >= 200 && status < 300) {
    const etag = parseEtag(headers['etag']);
    const seen = etag === undefined ? {} : { etag };
    if (kind === 'get') return { outcome: 'ok', code: undefined, value: valueText(body), ...seen };
    return { outcome: 'ok', code: undefined, ...seen };
  }
  const code = codeOf(body) ?? `HTTP ${status}`;
  if (status === 404 && kind === 'get') return { outcome: 'ok', code: undefined };
  if (status === 409) return { outcome: 'ok', code };
  return failed(code);
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
