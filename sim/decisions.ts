// What decided a run, as data (rule RP-5): the seed, the faults with their times, and the operations
// that were kept. A seed alone draws all of it; a decision list says it explicitly, so that parts can
// be left out until only what breaks the promise is left, and the rest can be read and replayed.
//
// Invariant: leaving something out changes no random draw of what stays (streams are forked by name).

import type { DamageClass, FaultClass, RunOptions } from './faults.ts';
import type { Schedule } from './schedule.ts';

/** Parts of the options that a shrunk run can do without. */
export const calmParts = ['clocks', 'slow-tail', 'buggify', 'ties', 'queues'] as const;
export type CalmPart = (typeof calmParts)[number];

export interface Decisions {
  readonly seed: number;
  /** Length of load and chaos together, virtual seconds. */
  readonly seconds: number;
  /** Classes of faults that are there whatever the seed draws. */
  readonly with?: readonly (FaultClass | DamageClass)[];
  /** Undefined: as the seed draws it. */
  readonly schedule?: Schedule;
  /** Names of the operations that are kept; undefined: all. */
  readonly operations?: readonly string[];
  /** Chaos ends this early, virtual milliseconds. */
  readonly chaosMs?: number;
  /** Parts of the options that are put to rest. */
  readonly calm?: readonly CalmPart[];
}

/** The options of a seed with what the decisions put to rest. */
export function calmed(options: RunOptions, { calm = [], chaosMs }: Decisions): RunOptions {
  const isCalm = (part: CalmPart): boolean => calm.includes(part);
  const { network, clocks, hasBuggify, ties } = options;
  return {
    ...options,
    chaosMs: Math.min(options.chaosMs, chaosMs ?? Infinity),
    clocks: isCalm('clocks') ? new Map() : clocks,
    hasBuggify: hasBuggify && !isCalm('buggify'),
    ties: isCalm('ties') ? 'fifo' : ties,
    network: {
      ...network,
      hasSlowTail: network.hasSlowTail && !isCalm('slow-tail'),
      queueLengthMax: isCalm('queues') ? 1_000 : network.queueLengthMax,
    },
  };
}

/** On one line, for a command line or a file. */
export const formatDecisions = (decisions: Decisions): string => JSON.stringify(decisions);

/** RangeError where the text is no decision list. */
export function parseDecisions(text: string): Decisions {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new RangeError(
      `the decision list: expected JSON, as a failing seed prints it, found ${text.slice(0, 40)}`,
    );
  }
  const list = value as Partial<Decisions> | null;
  if (!Number.isSafeInteger(list?.seed) || !((list?.seconds ?? 0) > 0))
    throw new RangeError('the decision list: expected JSON with the seed and the seconds of a run');
  return list as Decisions;
}
