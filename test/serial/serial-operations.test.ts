// What each serial operation does with what is there: conditions, counters, times to live, retries.

import { expect } from 'chai';
import { utf8 } from '../../runtime/bytes.ts';
import {
  recordEtag,
  recordExpiresAt,
  recordHlc,
  recordIsSerial,
  recordIsTombstone,
  recordValue,
  recordVersion,
} from '../../actors/model/record.ts';
import type { SerialCondition, SerialRequest } from '../../actors/replication/protocol.ts';
import { SerialHistory } from '../../actors/replication/serial-history.ts';
import {
  type Evaluated,
  evaluateRound,
  type RoundResult,
  type SerialOutcome,
} from '../../actors/replication/serial-operations.ts';
import { makeRecord, type RecordChanges } from '../kit-replication.ts';
import { facts, requestOf, writeOf } from './serial-world.ts';

const nowMs = 1_000_000;
const ballot = { hlc: 5_000, writer: 9, incarnation: 4 };

function evaluate(
  requests: readonly SerialRequest[],
  before?: Uint8Array,
  history = new SerialHistory(),
): RoundResult & { readonly record: Uint8Array | undefined } {
  const round = { ...facts, ballot, nowMs, history, valueBytesMax: 20, mayStamp: true };
  const result = evaluateRound(requests, before === undefined ? [] : [before], round);
  return { ...result, record: result.records.at(-1) };
}

const holding = (value: string, changes: RecordChanges = {}): Uint8Array =>
  makeRecord('key', { valueType: 1, version: 3, value, ...changes });
const outcomeOf = (evaluated: Evaluated | undefined): SerialOutcome => {
  if (evaluated === undefined || !('outcome' in evaluated)) throw new Error('no outcome');
  return evaluated.outcome;
};
const refusalOf = ({ outcomes }: RoundResult, i = 0): string => {
  const evaluated = outcomes[i];
  return evaluated !== undefined && 'refusal' in evaluated ? evaluated.refusal.code : 'none';
};
const textOf = (record: Uint8Array | undefined): string | undefined =>
  record === undefined ? undefined : utf8.decode(recordValue(record));

describe('serial operations', () => {
  it('serial operations: a write is stamped with the ballot, one version on, and flagged', () => {
    const { record, outcomes } = evaluate([writeOf('"b"')], holding('"a"'));
    expect(recordEtag(record as Uint8Array)).to.deep.equal(ballot);
    expect(recordVersion(record as Uint8Array)).to.equal(4);
    expect(recordIsSerial(record as Uint8Array)).to.equal(true);
    expect(textOf(outcomeOf(outcomes[0]).before)).to.equal('"a"');
  });

  const expired = holding('"a"', { expiresAt: nowMs });
  const deleted = holding('', { isTombstone: true });
  const value = (text: string): SerialCondition => ({ kind: 'value', value: utf8.encode(text) });
  const mortal = holding('1', { expiresAt: nowMs + 5 });
  const bytesOf = (byte: number): SerialCondition => ({
    kind: 'value',
    value: Uint8Array.of(byte),
  });
  const holdingBytes = (byte: number): Uint8Array =>
    evaluate([{ ...writeOf(''), value: Uint8Array.of(byte), valueType: 0 }]).record as Uint8Array;
  const table: readonly (readonly [string, SerialCondition, Uint8Array | undefined, boolean])[] = [
    ['absent of nothing', { kind: 'absent' }, undefined, true],
    ['absent of a value', { kind: 'absent' }, holding('1'), false],
    ['absent of a deleted key (PX-21)', { kind: 'absent' }, deleted, true],
    ['absent of an expired key (PX-21)', { kind: 'absent' }, expired, true],
    ['exists of nothing', { kind: 'exists' }, undefined, false],
    ['exists of a value', { kind: 'exists' }, holding('1'), true],
    ['exists of an expired key', { kind: 'exists' }, expired, false],
    ['version of nothing', { kind: 'version', version: 0 }, undefined, true],
    ['version 0 of a deleted key', { kind: 'version', version: 0 }, deleted, true],
    ['the version', { kind: 'version', version: 3 }, holding('1'), true],
    ['another version', { kind: 'version', version: 2 }, holding('1'), false],
    ['the etag', { kind: 'etag', etag: recordEtag(holding('1')) }, holding('1'), true],
    ['another etag', { kind: 'etag', etag: ballot }, holding('1'), false],
    ['the bytes', value('{"a":1,"b":2}'), holding('{"a":1,"b":2}'), true],
    ['the same JSON in another order', value('{ "b":2, "a":1 }'), holding('{"a":1,"b":2}'), true],
    ['bytes that are no text', bytesOf(0xff), holdingBytes(0xff), true],
    ['other bytes that are no text', bytesOf(0xfe), holdingBytes(0xff), false],
    ['no expiry, which is there', { kind: 'expiry', words: ['nx'] }, mortal, false],
    ['an expiry, which is there', { kind: 'expiry', words: ['xx'] }, mortal, true],
    ['an expiry of nothing', { kind: 'expiry', words: [] }, undefined, false],
    ['a later expiry than one that stays', { kind: 'expiry', words: ['gt'] }, mortal, true],
    ['an earlier expiry than for ever', { kind: 'expiry', words: ['lt'] }, mortal, false],
    ['another JSON', value('{"a":1}'), holding('{"a":1,"b":2}'), false],
    ['the order of an array', value('[2,1]'), holding('[1,2]'), false],
    ['JSON against bytes', value('{ "a":1}'), holding('{"a":1}', { valueType: 0 }), false],
    ['a neighbour of a long number', value('9007199254740993'), holding('9007199254740992'), false],
    ['digits in strings', value('["1234567890123456" ]'), holding('["1234567890123456"]'), true],
    ['a number without end', value('[1e999]'), holding('[1e998]'), false],
    ['a value of nothing', value('null'), undefined, false],
  ];
  for (const [what, condition, before, isMet] of table)
    it(`serial operations: condition ${what}: ${isMet ? 'holds' : 'does not'}`, () => {
      const { record, outcomes } = evaluate([writeOf('9', { condition })], before);
      expect(outcomeOf(outcomes[0]).isApplied).to.equal(isMet);
      expect(textOf(record)).to.equal(isMet ? '9' : undefined);
    });

  it('serial operations: a version grows on through a delete', () => {
    const { record } = evaluate([writeOf('1', { condition: { kind: 'absent' } })], deleted);
    expect(recordVersion(record as Uint8Array)).to.equal(4);
  });

  it('serial operations: a delete of nothing changes nothing, of a value it leaves a mark', () => {
    const none = evaluate([requestOf({ verb: 'delete' })]);
    expect(outcomeOf(none.outcomes[0]).isApplied).to.equal(true);
    expect(none.record).to.equal(undefined);
    const some = evaluate([requestOf({ verb: 'delete' })], holding('1'));
    expect(recordIsTombstone(some.record as Uint8Array)).to.equal(true);
    expect(outcomeOf(some.outcomes[0]).record).to.equal(undefined);
  });

  const increment = (delta: number, changes: Partial<SerialRequest> = {}): SerialRequest =>
    requestOf({ verb: 'increment', delta, keepTtl: true, ...changes });

  it('serial operations: increments of one round build on each other, each with a stamp of its own', () => {
    const { record, outcomes } = evaluate([increment(1), increment(10), increment(-3)]);
    expect(outcomes.map((one) => outcomeOf(one).number)).to.deep.equal([1, 11, 8]);
    const stamps = outcomes.map((one) => outcomeOf(one).written?.hlc);
    expect(stamps).to.deep.equal([5_000, 5_001, 5_002]);
    expect([textOf(record), recordHlc(record as Uint8Array)]).to.deep.equal(['8', 5_002]);
  });

  it('serial operations: an increment keeps the time to live and the kind of the value', () => {
    const before = holding('5', { expiresAt: nowMs + 7_000 });
    const { record } = evaluate([increment(1)], before);
    expect(recordExpiresAt(record as Uint8Array)).to.equal(nowMs + 7_000);
  });

  for (const [text, delta, code] of [
    ['"5"', 1, 'WRONG_TYPE'],
    ['5.0', 1, 'WRONG_TYPE'],
    ['1e3', 1, 'WRONG_TYPE'],
    ['{"a":1}', 1, 'WRONG_TYPE'],
    ['', 1, 'WRONG_TYPE'],
    ['-0', 1, 'none'],
    ['9007199254740991', 0, 'none'],
    ['9007199254740991', 1, 'WRONG_TYPE'],
    ['9007199254740992', -1, 'WRONG_TYPE'],
    ['-9007199254740991', -1, 'WRONG_TYPE'],
    ['-9007199254740990', -1, 'none'],
  ] as const)
    it(`serial operations: ${text === '' ? 'nothing' : text} + ${delta}: refused with ${code}`, () => {
      const result = evaluate([increment(delta), requestOf()], holding(text));
      expect(refusalOf(result)).to.equal(code);
      if (code !== 'none') expect(result.record).to.equal(undefined);
      expect(refusalOf(result, 1)).to.equal('none');
    });

  it('serial operations: what is longer than a value may be is refused', () => {
    const grow = (verb: 'append' | 'overwrite', text: string, offset: number): SerialRequest =>
      requestOf({ verb, value: utf8.encode(text), offset });
    const before = holding('0123456789', { valueType: 0 });
    expect(refusalOf(evaluate([grow('append', 'x'.repeat(11), 0)], before))).to.equal('TOO_LARGE');
    expect(textOf(evaluate([grow('append', 'ab', 0)], before).record)).to.equal('0123456789ab');
    expect(refusalOf(evaluate([grow('overwrite', 'ab', 19)], before))).to.equal('TOO_LARGE');
    const padded = evaluate([grow('overwrite', 'ab', 12)], before).record;
    expect(textOf(padded)).to.equal('0123456789\0\0ab');
  });

  it('serial operations: a new time to live leaves the value, and needs one', () => {
    const expire = requestOf({ verb: 'expire', ttlMs: 9_000 });
    const { record } = evaluate([expire], holding('1'));
    expect([textOf(record), recordExpiresAt(record as Uint8Array)]).to.deep.equal([
      '1',
      nowMs + 9_000,
    ]);
    expect(outcomeOf(evaluate([expire]).outcomes[0]).isApplied).to.equal(false);
  });

  it('serial operations: a request id gives the first result again, also within one round (ID-3)', () => {
    const first = increment(5, { requestId: 'id-1' });
    const round = evaluate([first, first], holding('1'));
    expect(round.outcomes.map((one) => outcomeOf(one).number)).to.deep.equal([6, 6]);
    expect(textOf(round.record)).to.equal('6');
    const history = new SerialHistory().with(ballot, round.kept);
    const later = evaluate([first], holding('77'), history);
    expect(outcomeOf(later.outcomes[0]).number).to.equal(6);
    expect(outcomeOf(later.outcomes[0]).written?.version).to.equal(4);
    expect(later.record).to.equal(undefined);
  });

  it('serial operations: a request id that was used for something else is refused (ID-3)', () => {
    const { kept } = evaluate([increment(5, { requestId: 'id-1' })], holding('1'));
    const history = new SerialHistory().with(ballot, kept);
    const other = evaluate([increment(6, { requestId: 'id-1' })], holding('6'), history);
    expect(refusalOf(other)).to.equal('REQUEST_REUSED');
    expect(other.record).to.equal(undefined);
  });

  it('serial operations: a refused operation leaves its neighbours of the round alone', () => {
    const taken = writeOf('2', { condition: { kind: 'absent' } });
    const { outcomes, record } = evaluate([increment(1), taken, increment(1)], holding('1'));
    expect(outcomes.map((one) => outcomeOf(one).isApplied)).to.deep.equal([true, false, true]);
    expect(textOf(outcomeOf(outcomes[1]).record)).to.equal('2');
    expect(textOf(record)).to.equal('3');
  });
});
