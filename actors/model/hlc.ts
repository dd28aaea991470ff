// Hybrid logical clock (Kulkarni et al., "Logical Physical Clocks", 2014) as one safe integer of
// microseconds: the larger of the wall clock and the last stamp + 1. It compares as a plain
// number and fits 2^53 until the year 2255 (amendment to HLC-1).

/** The next stamp: above `last` and `floor` (the key's newest stored stamp), not behind the wall. */
export function nextHlc(last: number, wallMicros: number, floor = 0): number {
  return Math.max(Math.floor(wallMicros), last + 1, floor + 1);
}

/** Stored versions further ahead of the wall than this are not overwritten: HLC-4, HLC-5. */
export const maxSkewMicros = 500_000;
