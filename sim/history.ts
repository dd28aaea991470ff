// What clients did and saw: the only thing that checkers of promises look at (rule 2.8).
//
// Outcomes: `ok`, the answer was received; `fail`, the operation certainly had no effect; `info`,
// nobody can tell, so it may take effect at any later time. A process that got `info` is retired:
// its operation stays open for ever.

import type { Etag } from '../actors/model/record.ts';
import { crc32, utf8 } from '../runtime/bytes.ts';

export type Outcome = 'ok' | 'fail' | 'info';
export type OperationKind =
  | 'put'
  | 'get'
  | 'delete'
  | 'scan'
  | 'cas'
  | 'increment'
  | 'watch'
  | 'batch'
  /** Of a workload of its own: see TransactionFacts. */
  | 'transaction'
  /** Of a namespace, whose name is the key. */
  | 'create'
  | 'alter'
  | 'drop';
/** `core`: some nodes are gone for good, the others must work (rule 2.6). */
export type Phase = 'load' | 'chaos' | 'core' | 'final';

/** A change as a watch tells of it. */
export interface Told {
  readonly key: string;
  readonly etag: Etag;
}

/** What a client of the workload `transactions` wanted of a hash tag, and what it was told. */
export interface TransactionFacts {
  readonly kind: 'transfer' | 'watched' | 'snapshot' | 'get' | 'note' | 'noted';
  /** In the log of the tag; of a note its value. */
  readonly name: string;
  readonly from: number;
  readonly to: number;
  readonly amount: number;
  /** Values that were read or left: see the workload. */
  readonly found: readonly string[];
  /** So many transactions had been done then, this one with them. */
  readonly place: number | undefined;
  /** Of a snapshot. */
  readonly log: string | undefined;
  /** It was done, and its answer came. */
  readonly isDone: boolean;
}

export interface Operation {
  readonly index: number;
  /** Name of the workload that ran it. */
  readonly workload: string;
  /** Its name within the workload, for shrinking; turn -1: it is always there. */
  readonly client: number;
  readonly turn: number;
  readonly kind: OperationKind;
  readonly key: string;
  readonly process: number;
  readonly node: string;
  readonly level: string;
  readonly phase: Phase;
  readonly invokedMs: number;
  /** Undefined: it never ended for its client. */
  readonly returnedMs: number | undefined;
  readonly outcome: Outcome;
  /** What a put wrote, what a get saw; undefined: a delete, or nothing was found. */
  readonly value: string | undefined;
  /** Names the write: of an ok write its own, of a get that found something the write it saw. */
  readonly etag: Etag | undefined;
  /** Why it failed, for people. */
  readonly code: string | undefined;
  /** Number of the session whose token it carried; the token is the one of the answer before. */
  readonly session?: number;
  /** The node that stamped a write, where its answer says so. */
  readonly coordinator?: string;
  /** Lifetime that a put asked for, milliseconds. */
  readonly ttlMs?: number;
  /** Of a cas: what had to be there, and whether it was. */
  readonly expected?: string;
  readonly wasMet?: boolean;
  /** Keys that a scan returned, in the order in which they came; those that a batch writes. */
  readonly keys?: readonly string[];
  /** Values that stood side by side: what a get returned, or what the context of a write had seen. */
  readonly siblings?: readonly string[];
  /** What a stream of a watch told, in this order. */
  readonly told?: readonly Told[];
  readonly transaction?: TransactionFacts;
}

/** The name of an operation in a list of decisions: `registers/3/17`. */
export function nameOf({
  workload,
  client,
  turn,
}: Pick<Operation, 'workload' | 'client' | 'turn'>): string {
  return `${workload}/${client}/${turn}`;
}

/** A value as it stands in a history: enough to tell any two apart, without the bytes. */
export function valueText(bytes: Uint8Array): string {
  return `${utf8.decode(bytes.subarray(0, 16))}/${bytes.length}/${crc32(bytes).toString(16)}`;
}

export class History {
  readonly #operations: Operation[] = [];

  /** Adds an operation when it starts; its index. */
  invoke(started: Omit<Operation, 'index' | 'returnedMs' | 'outcome' | 'etag' | 'code'>): number {
    const index = this.#operations.length;
    this.#operations.push({
      ...started,
      index,
      returnedMs: undefined,
      outcome: 'info',
      etag: undefined,
      code: 'OPEN',
    });
    return index;
  }

  complete(
    index: number,
    ended: Pick<Operation, 'outcome' | 'code'> &
      Partial<
        Pick<
          Operation,
          | 'value'
          | 'etag'
          | 'returnedMs'
          | 'keys'
          | 'siblings'
          | 'coordinator'
          | 'wasMet'
          | 'told'
          | 'transaction'
        >
      >,
  ): void {
    const started = this.#operations[index];
    if (started === undefined) throw new RangeError(`no operation ${index}`);
    this.#operations[index] = { ...started, ...ended };
  }

  get operations(): readonly Operation[] {
    return this.#operations;
  }

  count(outcome: Outcome, phase?: Phase): number {
    let count = 0;
    for (const operation of this.#operations)
      if (operation.outcome === outcome && (phase === undefined || operation.phase === phase))
        count += 1;
    return count;
  }
}

/** The operations of each key, in the order of their starts. */
export function byKey(operations: readonly Operation[]): Map<string, Operation[]> {
  const keys = new Map<string, Operation[]>();
  for (const operation of operations) {
    const known = keys.get(operation.key);
    if (known === undefined) keys.set(operation.key, [operation]);
    else known.push(operation);
  }
  return keys;
}

/** One operation in a line, for people. */
export function formatOperation(operation: Operation): string {
  const { index, kind, key, level, node, invokedMs, returnedMs, outcome, value, etag } = operation;
  const end = returnedMs === undefined ? '...' : returnedMs.toFixed(3);
  const stamp = etag === undefined ? '-' : `${etag.hlc}.${etag.writer}.${etag.incarnation}`;
  const code = operation.code === undefined ? '' : ` ${operation.code}`;
  const extra = [
    operation.session === undefined ? '' : ` session=${operation.session}`,
    operation.ttlMs === undefined ? '' : ` ttl=${operation.ttlMs}ms`,
    operation.transaction === undefined ? '' : ` ${JSON.stringify(operation.transaction)}`,
    operation.keys === undefined ? '' : ` keys=${operation.keys.length}`,
    operation.siblings === undefined ? '' : ` siblings=${operation.siblings.join('+') || 'none'}`,
  ].join('');
  return `#${index} ${nameOf(operation)} ${kind} ${key} at ${level} on ${node} [${invokedMs.toFixed(3)}, ${end}] ${outcome}${code} value=${value ?? 'none'} etag=${stamp}${extra}`;
}
