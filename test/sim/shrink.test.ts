// Shrinking: delta debugging on lists with a known answer, and on a run with a planted bug: a disk
// that lies about its syncs though the seed does not say so.

import { expect } from 'chai';
import { ddmin } from '../../sim/ddmin.ts';
import { calmed, type Decisions, formatDecisions, parseDecisions } from '../../sim/decisions.ts';
import { optionsOf } from '../../sim/faults.ts';
import { runDecisions, type SeedResult } from '../../sim/run-seed.ts';
import { drawSchedule, type FaultEvent } from '../../sim/schedule.ts';
import { shrink } from '../../sim/shrink.ts';
import { replayCommand } from '../../sim/report.ts';

const numbers = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

describe('sim ddmin', () => {
  const smallest = (count: number, needed: readonly number[]): Promise<readonly number[]> =>
    ddmin(numbers(count), (subset) =>
      Promise.resolve(needed.every((each) => subset.includes(each))),
    );

  for (const needed of [[], [0], [99], [3, 4], [0, 50, 99], [7, 8, 9, 60, 61]])
    it(`ddmin: finds exactly what is needed (needed=${needed.join('+') || 'nothing'}, of=100)`, async () => {
      expect(await smallest(100, needed)).to.deep.equal(needed);
    });

  it('ddmin: a list of which all is needed stays (elements=5)', async () => {
    expect(await smallest(5, [0, 1, 2, 3, 4])).to.deep.equal([0, 1, 2, 3, 4]);
  });

  it('ddmin: needs far fewer questions than there are elements (elements=1,000, needed=1)', async () => {
    let questions = 0;
    await ddmin(numbers(1_000), (subset) => {
      questions += 1;
      return Promise.resolve(subset.includes(617));
    });
    expect(questions).to.be.lessThan(60);
  });
});

describe('sim decisions', () => {
  it('decisions: a list comes back from its text', () => {
    const schedule = drawSchedule(optionsOf(4, 60));
    const decisions: Decisions = { seed: 4, seconds: 60, schedule, operations: ['registers/0/1'] };
    expect(parseDecisions(formatDecisions(decisions))).to.deep.equal(decisions);
  });

  it('decisions: text that is no list is refused', () => {
    for (const text of ['', '{', 'null', '{}', '{"seed":1}', '{"seed":1.5,"seconds":2}'])
      expect(() => parseDecisions(text), text).to.throw(RangeError);
  });

  it('decisions: what is put to rest is off, everything else as drawn', () => {
    const options = optionsOf(4, 60);
    const calm = calmed(options, {
      seed: 4,
      seconds: 60,
      chaosMs: 5,
      calm: ['clocks', 'slow-tail', 'buggify', 'ties', 'queues'],
    });
    expect(calm.clocks.size).to.equal(0);
    expect([calm.hasBuggify, calm.ties, calm.chaosMs]).to.deep.equal([false, 'fifo', 5]);
    expect(calm.network.hasSlowTail).to.equal(false);
    expect(calmed(options, { seed: 4, seconds: 60 })).to.deep.equal(options);
  });

  it('decisions: a schedule made explicit gives the same run as the seed alone (RP-5)', async () => {
    const drawn = await runDecisions({ seed: 5, seconds: 6 });
    const explicit = await runDecisions({ seed: 5, seconds: 6, schedule: drawn.schedule });
    expect(drawn.schedule.events.length).to.be.greaterThan(0);
    expect(explicit.hash).to.equal(drawn.hash);
  });

  it('decisions: an operation that is left out does not run, the others do', async () => {
    const played = await runDecisions({ seed: 5, seconds: 6, operations: ['registers/0/1'] });
    // Too little to mean anything, and it says so.
    expect(played.verdict).to.equal('invalid');
    expect(played.operations).to.deep.equal(['registers/0/1']);
  });
});

describe('sim shrink', () => {
  const quiet = { lossRatio: 0, replayRatio: 0, corruptRatio: 0, diskErrors: {} };
  const event = (part: Partial<FaultEvent>): FaultEvent => ({
    atMs: 0,
    kind: 'reset',
    node: 'n1',
    durationMs: 100,
    amount: 0,
    pairs: [],
    ...part,
  });
  const names = ['n1', 'n2', 'n3', 'n4', 'n5'];
  /** All disks lie, then all lose power, among events that have nothing to do with it. */
  const planted: Decisions = {
    seed: 12,
    seconds: 6,
    schedule: {
      steady: { ...quiet, replayRatio: 0.1 },
      events: [
        ...names.map((node) => event({ kind: 'lying-sync', node, durationMs: 60_000 })),
        ...names.map((node, i) => event({ atMs: 500 + i, node })),
        event({ atMs: 2_000, kind: 'pause', node: 'n2', durationMs: 200 }),
        event({ atMs: 3_000, kind: 'blackout', durationMs: 100 }),
        ...names.map((node, i) => event({ atMs: 3_500 + i, node })),
      ],
    },
  };

  it('shrink: a planted bug becomes a few faults and operations, and replays from one line', async () => {
    const failing = await runDecisions(planted);
    expect(failing.verdict).to.equal('safety');
    let runs = 0;
    const small = await shrink(failing, planted, {
      play: runDecisions,
      mayGoOn: () => (runs += 1) < 200,
    });
    const { decisions, result } = small ?? expect.fail('not reproduced');
    const { events = [] } = decisions.schedule ?? {};
    expect(events.filter(({ kind }) => kind === 'blackout')).to.have.length(1);
    expect(events.some(({ kind }) => kind === 'lying-sync')).to.equal(true);
    expect(events.length).to.be.at.most(6);
    expect(result.operations.length).to.be.at.most(6);
    const line = replayCommand(decisions, undefined);
    const text = /--replay '(.*)'$/.exec(line)?.[1] ?? '';
    const again = await runDecisions(parseDecisions(text));
    expect([again.property, again.hash]).to.deep.equal([failing.property, result.hash]);
  }).timeout(60_000);

  it('shrink: a failure that does not come again is not made small', async () => {
    const result = { property: 'safety: x', schedule: { steady: quiet, events: [] } };
    const play = (): Promise<SeedResult> => Promise.resolve({ property: '' } as SeedResult);
    const small = await shrink(result as unknown as SeedResult, planted, {
      play,
      mayGoOn: () => true,
    });
    expect(small).to.equal(undefined);
  });
});
