// What a checker returns: which promise was broken, and the operations that show it. A checker is a
// pure function of the history, so a violation can be looked at again without the run.

import { formatOperation, type Operation } from '../history.ts';

export interface Violation {
  /** Number of the rule in the rule book. */
  readonly rule: string;
  readonly key: string;
  /** One sentence. */
  readonly what: string;
  readonly operations: readonly Operation[];
}

export function formatViolation({ rule, key, what, operations }: Violation): string {
  const lines = operations.map((operation) => `    ${formatOperation(operation)}`);
  return [`${rule} key ${JSON.stringify(key)}: ${what}`, ...lines].join('\n');
}
