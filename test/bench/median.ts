// The median of a few rounds: one that was disturbed says nothing then.

/** Of an even number the lower one in the middle; NaN of none. */
export const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor((values.length - 1) / 2)] ?? Number.NaN;
