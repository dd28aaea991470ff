// How the answers of replicas become the outcome of a write: exact words, given once.

import { expect } from 'chai';
import fc from 'fast-check';
import { type ErrorCode, errorTable, failure } from '../../runtime/errors.ts';
import { type WriteOutcome, WritePath } from '../../actors/replication/write-path.ts';

type Answer = 'ack' | ErrorCode;

function play(required: number, sent: number, answers: readonly Answer[]): WriteOutcome[] {
  const path = new WritePath(required, sent);
  return answers.map((answer) => (answer === 'ack' ? path.acked() : path.failed(failure(answer))));
}

/** The outcomes in short: open, acked, or the code with its figures. */
function words(required: number, sent: number, answers: readonly Answer[]): string[] {
  return play(required, sent, answers).map((outcome) => {
    if (outcome.kind !== 'failed') return outcome.kind;
    const { code, fields } = outcome.failure;
    return code === 'TIMEOUT'
      ? `TIMEOUT ${String(fields['received'])}/${String(fields['required'])}`
      : code;
  });
}

const codes = ['DISK_FULL', 'OVERLOADED', 'TIMEOUT', 'UNREACHABLE'] as const;
const schedules = fc.integer({ min: 1, max: 5 }).chain((sent) =>
  fc.record({
    sent: fc.constant(sent),
    required: fc.integer({ min: 1, max: sent }),
    answers: fc.array(fc.constantFrom<Answer[]>('ack', 'ack', ...codes), {
      minLength: sent,
      maxLength: sent,
    }),
  }),
);

describe('write-path', () => {
  it('write-path: WR-2: acknowledged at the ack that makes the level, once', () => {
    expect(words(1, 3, ['ack', 'ack', 'ack'])).to.deep.equal(['acked', 'open', 'open']);
    expect(words(2, 3, ['ack', 'ack', 'ack'])).to.deep.equal(['open', 'acked', 'open']);
    expect(words(3, 3, ['ack', 'ack', 'ack'])).to.deep.equal(['open', 'open', 'acked']);
  });

  it('write-path: WR-4: failures that leave enough replicas change nothing', () => {
    expect(words(2, 3, ['DISK_FULL', 'ack', 'ack'])).to.deep.equal(['open', 'open', 'acked']);
    expect(words(2, 3, ['ack', 'UNREACHABLE', 'ack'])).to.deep.equal(['open', 'open', 'acked']);
    expect(words(2, 3, ['ack', 'ack', 'TIMEOUT'])).to.deep.equal(['open', 'acked', 'open']);
  });

  it('write-path: ID-1: a write that one replica took has not failed because another knows of a drop', () => {
    const dropped = 'NO_SUCH_NAMESPACE';
    expect(words(2, 3, ['ack', dropped, dropped])).to.deep.equal(['open', 'open', 'TIMEOUT 1/2']);
    expect(words(2, 3, ['TIMEOUT', dropped])).to.deep.equal(['open', 'TIMEOUT 0/2']);
    expect(words(2, 3, [dropped, 'DISK_FULL', dropped])).to.deep.equal(['open', 'open', dropped]);
    expect(words(2, 3, ['DISK_FULL', dropped, dropped])).to.deep.equal(['open', 'open', dropped]);
  });

  it('write-path: ID-1: unknown as soon as too few can ack and somebody may have it', () => {
    expect(words(2, 3, ['TIMEOUT', 'TIMEOUT', 'ack'])).to.deep.equal([
      'open',
      'TIMEOUT 0/2',
      'open',
    ]);
    expect(words(2, 3, ['ack', 'DISK_FULL', 'DISK_FULL'])).to.deep.equal([
      'open',
      'open',
      'TIMEOUT 1/2',
    ]);
    expect(words(3, 3, ['UNREACHABLE', 'ack', 'ack'])).to.deep.equal([
      'TIMEOUT 0/3',
      'open',
      'open',
    ]);
  });

  it('write-path: ID-1: refused only where every replica refused without effect, by the first word', () => {
    expect(words(2, 3, ['DISK_FULL', 'OVERLOADED', 'DISK_FULL'])).to.deep.equal([
      'open',
      'open',
      'DISK_FULL',
    ]);
    expect(words(1, 1, ['OVERLOADED'])).to.deep.equal(['OVERLOADED']);
  });

  it('write-path: ID-1: refusals wait for the replicas that are silent: they decide', () => {
    expect(words(2, 3, ['DISK_FULL', 'DISK_FULL', 'ack'])).to.deep.equal([
      'open',
      'open',
      'TIMEOUT 1/2',
    ]);
    expect(words(2, 3, ['DISK_FULL', 'DISK_FULL', 'TIMEOUT'])).to.deep.equal([
      'open',
      'open',
      'TIMEOUT 0/2',
    ]);
    expect(words(3, 3, ['DISK_FULL', 'ack', 'ack'])).to.deep.equal(['open', 'TIMEOUT 1/3', 'open']);
  });

  it('write-path: whatever comes in whatever order, one outcome, and a true one', () => {
    fc.assert(
      fc.property(schedules, ({ sent, required, answers }) => {
        const outcomes = play(required, sent, answers).filter(({ kind }) => kind !== 'open');
        expect(outcomes.length).to.equal(1);
        const outcome = outcomes[0] as WriteOutcome;
        const acks = answers.filter((answer) => answer === 'ack').length;
        expect(outcome.kind === 'acked').to.equal(acks >= required);
        if (outcome.kind !== 'failed') return;
        const isWithoutEffect = answers.every(
          (answer) => answer !== 'ack' && errorTable[answer].effect === 'none',
        );
        const { code, fields } = outcome.failure;
        expect(errorTable[code].effect).to.equal(isWithoutEffect ? 'none' : 'unknown');
        if (code === 'TIMEOUT') {
          expect(fields['required']).to.equal(required);
          expect(fields['received']).to.be.within(0, Math.min(acks, required - 1));
        }
      }),
      { numRuns: 1_000 },
    );
  });
});
