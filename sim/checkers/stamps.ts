// Stamps do not run away (HLC-4): whatever the clocks of other nodes do, a node stamps no write further
// in the future than its own clock was ever wrong, plus the skew that it accepts of stored stamps, plus
// the bound that each start may have to begin at (HLC-3).
//
// One wrong clock must not drag the stamps of every node behind it (CASSANDRA-11991).

import { maxSkewMicros } from '../../actors/model/hlc.ts';
import type { Checker, Evidence } from '../checker.ts';
import type { Operation } from '../history.ts';
import { epochMicros } from '../sim-clock.ts';

/** How far ahead of its clock a node may begin after a start: the lead of its durable bound. */
const boundLeadMs = 3_000;
/** Rounding, and coarse clocks. */
const slackMs = 100;

export const stampChecker: Checker = {
  id: 'HLC-4',
  check: (evidence) => {
    const writes = evidence.operations.filter(
      ({ kind, outcome, etag, coordinator, returnedMs }) =>
        (kind === 'put' || kind === 'delete') &&
        outcome === 'ok' &&
        etag !== undefined &&
        coordinator !== undefined &&
        returnedMs !== undefined,
    );
    const broken = writes.filter((write) => aheadMs(write) > allowedMs(write, evidence));
    return {
      judged: writes.length,
      violations: broken.map((write) => ({
        rule: 'HLC-4',
        key: write.key,
        what: 'a stamp is further ahead than its node and the bounds allow',
        operations: [write],
      })),
    };
  },
};

function aheadMs({ etag, returnedMs = 0 }: Operation): number {
  return ((etag?.hlc ?? 0) - epochMicros) / 1000 - returnedMs;
}

function allowedMs({ coordinator = '' }: Operation, { clockErrorsMs, starts }: Evidence): number {
  const ownMs = clockErrorsMs.get(coordinator) ?? Infinity;
  return ownMs + maxSkewMicros / 1000 + boundLeadMs * (starts + 1) + slackMs;
}
