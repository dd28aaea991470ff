// What a checker is: a pure function from the evidence of a run to broken promises (rule 2.8), so a
// violation can be looked at again without the run. A new one is a file in sim/checkers/ and a row
// in sim/registry.ts.
//
// A checker says how many operations it judged: a campaign in which one judged nothing has proved
// nothing about its promise, and reports that.

import type { Operation } from './history.ts';
import type { CopiesByKey } from './workload.ts';
import type { Violation } from './checkers/violation.ts';

export interface Evidence {
  readonly operations: readonly Operation[];
  /** Operations of one workload, in the order of their starts. */
  readonly of: (workload: string) => readonly Operation[];
  /** Copies of each key. */
  readonly replicas: number;
  /** Copies of a record that the faults of the seed may have destroyed: 0 is the usual case. */
  readonly lostCopies: number;
  /** Of what a quorum acknowledged none counts as destroyed. */
  readonly isRefilled: boolean;
  /** What the replicas held at the end, after a read of all of them. */
  readonly copies: CopiesByKey;
  /** No wall clock was ever further from the true time than this, milliseconds. */
  readonly clockErrorMs: number;
  /** The same for each node. */
  readonly clockErrorsMs: ReadonlyMap<string, number>;
  /** Starts of nodes, all together. */
  readonly starts: number;
  /** What was wrong in the files of the nodes, by node. */
  readonly diskProblems: ReadonlyMap<string, readonly string[]>;
  /** Nodes whose files were looked at. */
  readonly disksInspected: number;
}

export interface Finding {
  /** Operations, keys or files that it could say something about. */
  readonly judged: number;
  readonly violations: readonly Violation[];
}

export interface Checker {
  /** Number of the rule, with a name where one rule has several: `CK-4`, `CK-1 values`. */
  readonly id: string;
  readonly check: (evidence: Evidence) => Finding;
}

/** Evidence of a plain run, for tests of checkers: `part` over the usual values. */
export function evidenceOf(
  operations: readonly Operation[],
  part: Partial<Omit<Evidence, 'operations' | 'of'>> = {},
): Evidence {
  const groups = new Map<string, Operation[]>();
  for (const operation of operations) {
    const group = groups.get(operation.workload);
    if (group === undefined) groups.set(operation.workload, [operation]);
    else group.push(operation);
  }
  return {
    replicas: 3,
    lostCopies: 0,
    isRefilled: false,
    copies: new Map(),
    clockErrorMs: 0,
    clockErrorsMs: new Map(),
    starts: 0,
    diskProblems: new Map(),
    disksInspected: 0,
    ...part,
    operations,
    of: (workload) => groups.get(workload) ?? [],
  };
}
