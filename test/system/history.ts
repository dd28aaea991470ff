// What clients did and saw, on one clock: the input of the checks. Outcomes are exact (ID-1): `ok`,
// `fail` for what certainly had no effect, `unknown` for the rest.

export type Outcome = 'ok' | 'fail' | 'unknown';

export interface Operation {
  readonly client: number;
  readonly kind: 'write' | 'delete' | 'read' | 'increment' | 'cas' | 'batch';
  readonly key: string;
  readonly level: string;
  readonly startMs: number;
  readonly endMs: number;
  readonly outcome: Outcome;
  /** What was written; of a read, what was found (undefined: nothing). */
  readonly value: string | undefined;
  /** Of a batch; `key` is all of them in one text. */
  readonly keys?: readonly string[];
  /** Of a cas: what had to be there. */
  readonly expected?: string;
  /** Of a cas: false where something else was there. */
  readonly wasMet?: boolean;
  /** Of writes that were acknowledged and reads that found something. */
  readonly etag: string | undefined;
  /** Code of the refusal. */
  readonly code?: string;
}

/** Order of etags: hlc, then writer, then incarnation (rule HLC-1). */
export function compareEtagTexts(a: string, b: string): number {
  const left = a.split('-').map((part) => Number.parseInt(part, 36));
  const right = b.split('-').map((part) => Number.parseInt(part, 36));
  for (let i = 0; i < 3; i += 1) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

export function byKey(history: readonly Operation[]): Map<string, Operation[]> {
  const keys = new Map<string, Operation[]>();
  for (const operation of history) {
    const list = keys.get(operation.key);
    if (list === undefined) keys.set(operation.key, [operation]);
    else list.push(operation);
  }
  return keys;
}
