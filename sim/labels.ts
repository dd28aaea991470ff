// Rare branches that a long campaign has to reach (rule SIM-9): the labels that product code marks
// with `probe.reach`, and those of the simulator itself. One that is never reached means that the
// tests no longer test what they were built for.
//
// Invariant: each label of the product's source is in this list (test/sim/labels.test.ts).

/** Reached in every few seeds; `--fail-unreached` demands them all. */
export const declaredLabels: readonly string[] = [
  'append cut back',
  'background read repair',
  'batch completed by its log',
  'blocking read repair',
  'compaction failed',
  'compaction groups changed',
  'compaction installed',
  'decision applied',
  'flush began',
  'hint batch sent again',
  'hint kept',
  'hint overtaken by repair',
  'hint window closed',
  'hints delivered',
  'memtable flushed',
  'merges slowed down',
  'namespace changed',
  'node filled',
  'open updates ended by repair',
  'own decision found in history',
  'primary taken over',
  'reads joined',
  'record repaired',
  'repair horizon moved',
  'repair horizon went back',
  'scrub found damage',
  'scrub pass',
  'serial operations merged',
  'serial read without a ballot',
  'serial state forgotten',
  'sibling epoch given up',
  'siblings side by side',
  'speculative read',
  'tombstones purged',
  'torn tail cut',
  'unfinished decision completed',
  'writes slowed down',
  'writes slowed down by a flush',
  'writes stalled by compaction',
  'sim: core without a minority',
  'sim: damage refused',
  'sim: lost generation found',
  'sim: flipped bit noticed',
  'sim: old bytes refused',
];

/** Labels that were not reached, in the order of the list. */
export const unreached = (reached: ReadonlyMap<string, number>): string[] =>
  declaredLabels.filter((label) => !reached.has(label));
