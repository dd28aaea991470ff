// What a load does: shares of operations and the choice of keys. A to F are the core workloads of
// YCSB (Cooper et al., "Benchmarking Cloud Serving Systems with YCSB", SoCC 2010).

import type { KeyDistribution } from './key-chooser.ts';

export const operations = ['read', 'update', 'insert', 'scan', 'modify'] as const;
export type Operation = (typeof operations)[number];

export interface Workload {
  readonly what: string;
  /** Shares of operations; they add up to 1. `modify`: a read, then an update of the same key. */
  readonly mix: Readonly<Partial<Record<Operation, number>>>;
  readonly keys: KeyDistribution;
}

export const workloads = {
  A: { what: 'update heavy', mix: { read: 0.5, update: 0.5 }, keys: 'zipfian' },
  B: { what: 'read mostly', mix: { read: 0.95, update: 0.05 }, keys: 'zipfian' },
  C: { what: 'read only', mix: { read: 1 }, keys: 'zipfian' },
  D: { what: 'read latest', mix: { read: 0.95, insert: 0.05 }, keys: 'latest' },
  E: { what: 'short ranges', mix: { scan: 0.95, insert: 0.05 }, keys: 'zipfian' },
  F: { what: 'read, modify, write', mix: { read: 0.5, modify: 0.5 }, keys: 'zipfian' },
  get: { what: 'reads of any key', mix: { read: 1 }, keys: 'uniform' },
  put: { what: 'writes of any key', mix: { update: 1 }, keys: 'uniform' },
} as const satisfies Record<string, Workload>;
export type WorkloadName = keyof typeof workloads;

/** The operation for a number from 0 to below 1. */
export function operationAt({ mix }: Workload, at: number): Operation {
  let sum = 0;
  let last: Operation = 'read';
  for (const operation of operations) {
    const share = mix[operation];
    if (share === undefined) continue;
    last = operation;
    sum += share;
    if (at < sum) return operation;
  }
  return last;
}
