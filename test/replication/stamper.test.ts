// Stamps: strictly increasing per writer whatever its wall clock does, never beyond what is durable,
// above what was seen but not dragged into the far future (HLC-2 to HLC-5).

import { expect } from 'chai';
import fc from 'fast-check';
import { CorruptionError } from '../../runtime/errors.ts';
import { maxSkewMicros, nextHlc } from '../../actors/model/hlc.ts';
import {
  boundLeadMicros,
  decodeBound,
  encodeBound,
  Stamper,
} from '../../actors/replication/stamper.ts';
import { codeThrownBy } from '../kit.ts';

const wall = 1_700_000_000_000_000;

/** A stamper that may stamp around `wall`. */
function readyStamper(bound = 0): Stamper {
  const stamper = new Stamper(bound);
  stamper.extended(wall + boundLeadMicros);
  return stamper;
}

type Step =
  | { readonly kind: 'clock'; readonly byMicros: number }
  | { readonly kind: 'write'; readonly floorAhead: number }
  | { readonly kind: 'extend'; readonly isLost: boolean }
  | { readonly kind: 'restart' };

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    fc.record({
      kind: fc.constant('clock' as const),
      byMicros: fc.oneof(
        fc.integer({ min: -3, max: 3 }),
        fc.integer({ min: -20_000_000, max: 20_000_000 }),
      ),
    }),
    fc.record({
      kind: fc.constant('write' as const),
      floorAhead: fc.oneof(fc.constant(-1_000), fc.integer({ min: -5, max: 600_000 })),
    }),
    fc.record({ kind: fc.constant('extend' as const), isLost: fc.boolean() }),
    fc.record({ kind: fc.constant('restart' as const) }),
  ),
  { maxLength: 60 },
);

describe('hlc', () => {
  it('hlc: the next stamp is the wall clock where that is ahead, else one above the highest', () => {
    expect(nextHlc(5, 100)).to.equal(100);
    expect(nextHlc(5, 100.9)).to.equal(100);
    expect(nextHlc(100, 100)).to.equal(101);
    expect(nextHlc(500, 100)).to.equal(501);
    expect(nextHlc(500, 100, 700)).to.equal(701);
    expect(nextHlc(500, 900, 700)).to.equal(900);
  });
});

describe('stamper', () => {
  it('stamper: stamps increase over clock steps and restarts, and never pass the durable bound', () => {
    fc.assert(
      fc.property(steps, (sequence) => {
        let clock = wall;
        let durable = 0;
        let stamper = new Stamper(0);
        let last = 0;
        for (const step of sequence) {
          if (step.kind === 'clock') clock += step.byMicros;
          else if (step.kind === 'restart') stamper = new Stamper(durable);
          else if (step.kind === 'extend') {
            const bound = stamper.nextBound(clock);
            if (bound === undefined) continue;
            // It reaches the disk; whether the stamper hears of it is another matter.
            durable = bound;
            if (!step.isLost) stamper.extended(bound);
          } else if (stamper.isReady(clock)) {
            const floor = clock + step.floorAhead;
            const refused = codeThrownBy(() => {
              const stamp = stamper.stamp(clock, floor);
              expect(stamp).to.be.above(last);
              expect(stamp).to.be.above(floor);
              expect(stamp).to.be.at.most(durable);
              expect(Number.isSafeInteger(stamp)).to.equal(true);
              last = stamp;
            });
            if (refused === 'FUTURE_VERSION') {
              expect(floor).to.be.at.least(clock + maxSkewMicros);
              expect(floor).to.be.above(last);
            }
          }
        }
      }),
      { numRuns: 500 },
    );
  });

  it('stamper: without a bound it is not ready, and says which one it needs', () => {
    const stamper = new Stamper(0);
    expect(stamper.isReady(wall)).to.equal(false);
    expect(stamper.nextBound(wall)).to.equal(wall + boundLeadMicros);
    stamper.extended(wall + boundLeadMicros);
    expect(stamper.isReady(wall)).to.equal(true);
    expect(stamper.nextBound(wall)).to.equal(undefined);
  });

  it('stamper: the bound is extended at half its lead, before anybody has to wait for it', () => {
    const stamper = readyStamper();
    const half = wall + boundLeadMicros / 2;
    expect(stamper.nextBound(half)).to.equal(undefined);
    expect(stamper.nextBound(half + 1)).to.equal(half + 1 + boundLeadMicros);
    expect(stamper.isReady(half + 1)).to.equal(true);
  });

  it('stamper: it is not ready where a stamp above an allowed floor would pass the bound', () => {
    const stamper = readyStamper();
    const end = wall + boundLeadMicros;
    expect(stamper.isReady(end - maxSkewMicros)).to.equal(true);
    expect(stamper.isReady(end - maxSkewMicros + 1)).to.equal(false);
    expect(stamper.stamp(end - maxSkewMicros, end - 1)).to.equal(end);
  });

  it('stamper: a smaller bound that comes late takes nothing back', () => {
    const stamper = readyStamper();
    stamper.extended(1);
    expect(stamper.isReady(wall)).to.equal(true);
  });

  it('stamper: after a restart it goes on above the bound, with the wall clock set back (HLC-3)', () => {
    const bound = wall + 5;
    const stamper = new Stamper(bound);
    const anHourBack = wall - 3_600_000_000;
    expect(stamper.isReady(anHourBack)).to.equal(false);
    stamper.extended(stamper.nextBound(anHourBack) ?? 0);
    expect(stamper.stamp(anHourBack, 0)).to.equal(bound + 1);
  });

  it('stamper: a stamp lies above the floor, and the next one above both (HLC-4)', () => {
    const stamper = readyStamper();
    const floor = wall + 400_000;
    expect(stamper.stamp(wall, floor)).to.equal(floor + 1);
    // Another write that saw the same stored record: an equal stamp would be an equal etag.
    expect(stamper.stamp(wall, floor)).to.equal(floor + 2);
    expect(stamper.stamp(wall, 0)).to.equal(floor + 3);
  });

  it('stamper: a floor at the bound of the skew is refused and moves no clock (HLC-5)', () => {
    const stamper = readyStamper();
    const highest = wall + maxSkewMicros;
    expect(codeThrownBy(() => stamper.stamp(wall, highest))).to.equal('FUTURE_VERSION');
    expect(stamper.stamp(wall, 0)).to.equal(wall);
    expect(stamper.stamp(wall, highest - 1)).to.equal(highest);
  });

  it('stamper: a fractional wall clock gives whole stamps within the same limits', () => {
    const stamper = readyStamper();
    const limit = wall + maxSkewMicros;
    expect(codeThrownBy(() => stamper.stamp(wall + 0.75, limit))).to.equal('FUTURE_VERSION');
    expect(stamper.stamp(wall + 0.75, 0)).to.equal(wall);
  });

  it('stamper: what this writer stamped itself may be overwritten after the clock stepped back', () => {
    const stamper = readyStamper();
    const stamp = stamper.stamp(wall, 0);
    const stepped = wall - 60_000_000;
    expect(stamper.stamp(stepped, stamp)).to.equal(stamp + 1);
  });
});

describe('stamper: the file of the bound', () => {
  it('stamper: a bound comes back from its bytes', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (bound) => {
        expect(decodeBound(encodeBound(bound), 'bound')).to.equal(bound);
      }),
    );
  });

  it('stamper: every flipped bit and every other length is corruption', () => {
    const bytes = encodeBound(wall);
    for (let bit = 0; bit < bytes.length * 8; bit += 1) {
      const damaged = bytes.slice();
      damaged[bit >> 3] = (damaged[bit >> 3] as number) ^ (1 << (bit & 7));
      expect(() => decodeBound(damaged, 'bound'), `bit=${bit}`).to.throw(CorruptionError);
    }
    for (let length = 0; length < bytes.length; length += 1)
      expect(() => decodeBound(bytes.slice(0, length), 'bound')).to.throw(CorruptionError);
    const longer = new Uint8Array(bytes.length + 1);
    longer.set(bytes);
    expect(() => decodeBound(longer, 'bound')).to.throw(CorruptionError);
  });
});
