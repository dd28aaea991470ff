// All workloads and all checkers of the simulator, one row each. A seed draws which workloads it
// runs; every checker looks at every run and picks what concerns it.

import type { Checker } from './checker.ts';
import { batchChecker } from './checkers/batches.ts';
import { expiryChecker } from './checkers/expiry.ts';
import { namespaceChecker } from './checkers/namespaces.ts';
import { quorumFloorChecker } from './checkers/quorum-floor.ts';
import { scanChecker } from './checkers/scans.ts';
import { counterChecker, linearizabilityChecker } from './checkers/serial.ts';
import { sessionChecker } from './checkers/sessions.ts';
import { convergenceChecker, durabilityChecker } from './checkers/settled.ts';
import { siblingChecker } from './checkers/siblings.ts';
import { stampChecker } from './checkers/stamps.ts';
import { structureChecker } from './checkers/structure.ts';
import { transactionChecker } from './checkers/transactions.ts';
import { valuesChecker } from './checkers/values.ts';
import { watchChecker } from './checkers/watches.ts';
import type { WorkloadKind } from './workload.ts';
import { batchWorkload } from './workloads/batches.ts';
import { expiryWorkload } from './workloads/expiries.ts';
import { namespaceWorkload } from './workloads/namespaces.ts';
import { registerWorkload } from './workloads/registers.ts';
import { scanWorkload } from './workloads/scans.ts';
import { serialWorkload } from './workloads/serial.ts';
import { sessionWorkload } from './workloads/sessions.ts';
import { siblingWorkload } from './workloads/siblings.ts';
import { transactionWorkload } from './workloads/transactions.ts';
import { watchWorkload } from './workloads/watches.ts';

export const workloadKinds: readonly WorkloadKind[] = [
  registerWorkload,
  sessionWorkload,
  expiryWorkload,
  scanWorkload,
  serialWorkload,
  siblingWorkload,
  batchWorkload,
  watchWorkload,
  namespaceWorkload,
  transactionWorkload,
];

export const checkers: readonly Checker[] = [
  durabilityChecker,
  valuesChecker,
  quorumFloorChecker,
  sessionChecker,
  convergenceChecker,
  expiryChecker,
  scanChecker,
  stampChecker,
  structureChecker,
  linearizabilityChecker,
  counterChecker,
  siblingChecker,
  batchChecker,
  watchChecker,
  namespaceChecker,
  transactionChecker,
];
