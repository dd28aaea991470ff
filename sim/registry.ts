// All workloads and all checkers of the simulator, one row each. A seed draws which workloads it
// runs; every checker looks at every run and picks what concerns it.

import type { Checker } from './checker.ts';
import { convergenceChecker, durabilityChecker } from './checkers/settled.ts';
import { quorumFloorChecker } from './checkers/quorum-floor.ts';
import { valuesChecker } from './checkers/values.ts';
import type { WorkloadKind } from './workload.ts';
import { registerWorkload } from './workloads/registers.ts';

export const workloadKinds: readonly WorkloadKind[] = [registerWorkload];

export const checkers: readonly Checker[] = [
  durabilityChecker,
  valuesChecker,
  quorumFloorChecker,
  convergenceChecker,
];
