// Transactions in rounds: what one evaluates to, that it is decided as one whatever is lost, and that
// all of them together, with single operations between, are strictly serializable.

import { expect } from 'chai';
import fc from 'fast-check';
import { utf8 } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';
import type { Prng } from '../../runtime/prng.ts';
import { noEtag, recordEtag, recordValue, storageKey } from '../../actors/model/record.ts';
import type {
  SerialRequest,
  TransactionCommand,
  TransactionReply,
  TransactionRequest,
  Watched,
} from '../../actors/replication/protocol.ts';
import { SerialHistory } from '../../actors/replication/serial-history.ts';
import {
  decisionBytesMax,
  type Evaluated,
  evaluateRound,
  type RoundRequest,
  type RoundResult,
} from '../../actors/replication/serial-operations.ts';
import { makeRecord, type RecordChanges } from '../kit-replication.ts';
import { type Fate, facts, type Replica, requestOf, SerialWorld, writeOf } from './serial-world.ts';

// All of them have the place of the key `key`, which is their hash tag.
const a = utf8.encode('{key}a');
const b = utf8.encode('{key}b');
const c = utf8.encode('{key}c');

const nowMs = 1_000_000;
const ballot = { hlc: 5_000, writer: 9, incarnation: 4 };
const holding = (key: Uint8Array, value: string, changes: RecordChanges = {}): Uint8Array =>
  makeRecord(utf8.decode(key), { value, version: 3, ...changes });

const commandOf = (...operations: SerialRequest[]): TransactionCommand => ({
  conditions: [],
  operations,
});
const set = (key: Uint8Array, text: string): SerialRequest => writeOf(text, { key });
const add = (key: Uint8Array, delta = 1): SerialRequest =>
  requestOf({ verb: 'increment', key, delta, keepTtl: true });
const get = (key: Uint8Array): SerialRequest => requestOf({ key });

function transactionOf(
  commands: readonly TransactionCommand[],
  watches: readonly Watched[] = [],
): TransactionRequest {
  return { namespace: 1, key: a, watches, commands };
}

type Ended = Pick<TransactionReply, 'isApplied' | 'results'>;

const endOf = (evaluated: Evaluated | undefined): Ended => {
  if (evaluated === undefined || !('transaction' in evaluated)) throw new Error('no transaction');
  return evaluated.transaction;
};

function evaluate(
  requests: readonly RoundRequest[],
  before: readonly Uint8Array[] = [],
  changes: { readonly mayStamp?: boolean; readonly valueBytesMax?: number } = {},
): RoundResult {
  const terms = { nowMs, history: new SerialHistory(), valueBytesMax: 20, mayStamp: true };
  return evaluateRound(requests, before, { ...facts, ...terms, ballot, ...changes });
}

const textOf = (record: Uint8Array | undefined): string | undefined =>
  record === undefined ? undefined : utf8.decode(recordValue(record));
const texts = ({ results }: Ended): unknown[] =>
  results.map(({ steps, problem }) => problem?.code ?? steps.map(({ record }) => textOf(record)));

describe('transactions', () => {
  it('transactions: each command sees what the ones before it left, each record has its own stamp', () => {
    const { outcomes, records } = evaluate(
      [transactionOf([commandOf(add(a)), commandOf(add(a)), commandOf(set(b, '7'), get(a))])],
      [holding(a, '4')],
    );
    expect(texts(endOf(outcomes[0]))).to.deep.equal([['5'], ['6'], ['7', '6']]);
    expect(records.map(textOf)).to.deep.equal(['6', '7']);
    expect(new Set(records.map((record) => recordEtag(record).hlc)).size).to.equal(2);
  });

  it('transactions: a command that cannot be done leaves the others as they are', () => {
    const { outcomes, records } = evaluate(
      [transactionOf([commandOf(add(a)), commandOf(add(b)), commandOf(add(a))])],
      [holding(b, 'text')],
    );
    expect(texts(endOf(outcomes[0]))).to.deep.equal([['1'], 'WRONG_TYPE', ['2']]);
    expect(records.map(textOf)).to.deep.equal(['2']);
  });

  it('transactions: a command is done as one: a problem or a condition leaves nothing of it', () => {
    const absent = { key: b, condition: { kind: 'absent' } } as const;
    const both: TransactionCommand = {
      conditions: [absent],
      operations: [set(a, 'x'), set(b, 'y')],
    };
    const failing = commandOf(set(a, 'x'), add(b));
    const met = evaluate([transactionOf([both])]);
    expect(met.records.map(textOf)).to.deep.equal(['x', 'y']);
    const unmet = evaluate([transactionOf([both, failing])], [holding(b, 'text')]);
    expect(unmet.records).to.deep.equal([]);
    expect(endOf(unmet.outcomes[0]).results.map(({ isApplied }) => isApplied)).to.deep.equal([
      false,
      false,
    ]);
  });

  const stored = holding(b, '1');
  const mark = holding(b, '', { isTombstone: true });
  const mortal = holding(b, '1', { expiresAt: nowMs });
  const seen = (etag: Watched['etag'], isLive: boolean): Watched => ({ key: b, etag, isLive });
  for (const [what, watched, there, isApplied] of [
    ['as it was', seen(recordEtag(stored), true), stored, true],
    ['written since', seen({ ...recordEtag(stored), hlc: 1 }, true), stored, false],
    ['made since', seen(noEtag, false), stored, false],
    ['not there, as before', seen(noEtag, false), undefined, true],
    ['made and deleted since', seen(noEtag, false), mark, false],
    ['deleted, as before', seen(recordEtag(mark), false), mark, true],
    ['expired since', seen(recordEtag(mortal), true), mortal, false],
    ['gone with its mark', seen(recordEtag(mark), false), undefined, false],
  ] as const)
    it(`transactions: a watched key that is ${what}: ${isApplied ? 'done' : 'nothing is done'}`, () => {
      const request = transactionOf([commandOf(set(a, 'x'))], [watched]);
      const { outcomes, records } = evaluate([request], there === undefined ? [] : [there]);
      expect(endOf(outcomes[0]).isApplied).to.equal(isApplied);
      expect(records.length).to.equal(isApplied ? 1 : 0);
    });

  it('transactions: in one round with others each sees what the one before it did', () => {
    const first = evaluate([transactionOf([commandOf(set(a, '1'))])]);
    const [record] = first.records;
    const etag = record === undefined ? noEtag : recordEtag(record);
    const watching = transactionOf([commandOf(set(b, '2'))], [{ key: a, etag, isLive: true }]);
    const round = evaluate([watching, add(a), watching], first.records);
    expect(endOf(round.outcomes[0]).isApplied).to.equal(true);
    expect(endOf(round.outcomes[2]).isApplied).to.equal(false);
  });

  it('transactions: a copy takes value and time to live, of nothing it does nothing', () => {
    const copy = (from: Uint8Array): SerialRequest => requestOf({ verb: 'copy', key: c, from });
    const { outcomes, records } = evaluate(
      [transactionOf([commandOf(copy(a)), commandOf(copy(b))])],
      [holding(a, '4', { expiresAt: nowMs + 9 })],
    );
    expect(records.map(textOf)).to.deep.equal(['4']);
    const steps = endOf(outcomes[0]).results.flatMap((result) => result.steps);
    expect(steps.map(({ isApplied }) => isApplied)).to.deep.equal([true, false]);
  });

  it('transactions: one that writes too much is refused as a whole, and its neighbours are not', () => {
    const large = 'x'.repeat(decisionBytesMax / 2);
    const request = transactionOf([commandOf(set(a, large)), commandOf(set(b, large))]);
    const round = evaluate([add(c), request, add(c)], [], { valueBytesMax: large.length });
    expect(round.records.map(textOf)).to.deep.equal(['2']);
    const [, refused] = round.outcomes;
    expect(refused !== undefined && 'refusal' in refused && refused.refusal.code).to.equal(
      'OVERLOADED',
    );
    const [alone] = evaluate([request], [], { valueBytesMax: large.length }).outcomes;
    expect(alone !== undefined && 'refusal' in alone && alone.refusal.code).to.equal('TOO_LARGE');
  });

  it('transactions: under a clock far ahead one that writes is refused, one that reads is not', () => {
    const round = evaluate(
      [transactionOf([commandOf(set(a, '1'))]), transactionOf([commandOf(get(a))])],
      [holding(a, '4')],
      { mayStamp: false },
    );
    const [refused, read] = round.outcomes;
    expect(refused !== undefined && 'refusal' in refused && refused.refusal.code).to.equal(
      'FUTURE_VERSION',
    );
    expect(texts(endOf(read))).to.deep.equal([['4']]);
  });

  it('transactions: one request id on two keys of a tag names two operations (ID-3)', () => {
    const one = { ...add(a), requestId: 'id' };
    const other = { ...add(b), requestId: 'id' };
    const { records, kept } = evaluate([one, other, one]);
    expect(records.map(textOf)).to.deep.equal(['1', '1']);
    expect(kept.length).to.equal(2);
  });
});

// ---- decided by replicas -----------------------------------------------------------------------

const halves = (world: SerialWorld): string[] =>
  world.names.map((name) => {
    const replica = world.replicas.get(name);
    const held = [a, b].map((key) => replica?.of(storageKey(1, key)));
    return held.map((record) => textOf(record) ?? '-').join();
  });

describe('transactions of replicas', () => {
  for (const reached of [['n1'], ['n1', 'n2']])
    it(`transactions of replicas: what ${reached.length} of 3 accepted is ended as one by whoever comes (PX-7)`, async () => {
      const world = new SerialWorld({
        fateOf: (from, node, step) => {
          if (from !== 1 || step === 'prepare') return 'heard';
          return step === 'propose' && reached.includes(node) ? 'unheard' : 'lost';
        },
      });
      const request = transactionOf([commandOf(set(a, '1')), commandOf(set(b, '2'))]);
      const broken = world.round(1, [request], 50).catch(() => undefined);
      await world.run();
      expect(await broken).to.equal(undefined);
      // Somebody who has to do with one of the keys only.
      const reading = world.round(2, [get(b)]);
      await world.run();
      const [found] = (await reading).outcomes;
      const shown = found !== undefined && 'outcome' in found ? textOf(found.outcome.record) : '';
      if (reached.length > 1) expect(shown).to.equal('2');
      const all = new Set(halves(world));
      expect([...all].every((held) => held === '1,2' || held === '-,-')).to.equal(true);
      expect(halves(world).filter((held) => held === '1,2').length >= 2).to.equal(shown === '2');
    });

  it('transactions of replicas: who lacks the newest decision gets all keys that it wrote (PX-7 b)', async () => {
    const world = new SerialWorld({
      fateOf: (from, node, step) =>
        from === 1 && node !== 'n1' && step === 'commit' ? 'lost' : 'heard',
    });
    const request = transactionOf([commandOf(set(a, '1')), commandOf(set(b, '2'))]);
    const broken = world.round(1, [request], 50).catch(() => undefined);
    await world.run();
    await broken;
    world.away.add('n3');
    const third = world.round(2, [set(c, '3')]);
    await world.run();
    await third;
    expect(halves(world), 'what each has').to.deep.equal(['1,2', '1,2', '-,-']);
  });

  it('transactions of replicas: a decision that comes after a later one still brings its keys', async () => {
    let isLate = true;
    const world = new SerialWorld({
      fateOf: (from, node, step) =>
        isLate && from === 1 && node === 'n3' && step === 'commit' ? 'lost' : 'heard',
    });
    const first = world.round(1, [set(a, '1')]);
    await world.run();
    await first;
    isLate = false;
    const { state, ...held } = world.replicas.get('n1') as Replica;
    const proposal = { ...state.committed, records: [...held.records.values()] };
    const second = world.round(2, [set(b, '2')]);
    await world.run();
    await second;
    expect(halves(world)[2]).to.equal('-,2');
    world.deliver('n3', 'commit', { proposal });
    expect(halves(world)[2]).to.equal('1,2');
  });

  it('transactions of replicas: what a repair brought of a newer decision is not shown beside what is older', async () => {
    const world = new SerialWorld({
      delayMsMax: 1,
      fateOf: (from, node, step) =>
        (from === 3 && node === 'n1' && step === 'look') || (from === 2 && node === 'n3')
          ? 'lost'
          : 'heard',
    });
    const pair = (text: string): TransactionRequest =>
      transactionOf([commandOf(set(a, text)), commandOf(set(b, text))]);
    const first = world.round(1, [pair('1')]);
    await world.run();
    await first;
    // n2 answers at once and n3 after the spare time; between them n1 and n2 decide, and a plain read
    // has repaired one key on n3.
    const reader = world.round(3, [transactionOf([commandOf(get(a), get(b))])]);
    let second: Promise<unknown> | undefined;
    world.after(4, () => {
      second = world.round(2, [pair('2')]);
    });
    world.after(18, () => {
      const newer = world.replicas.get('n1')?.of(storageKey(1, a));
      if (newer !== undefined) world.replicas.get('n3')?.apply(newer);
      expect(halves(world)).to.deep.equal(['2,2', '2,2', '2,1']);
    });
    await world.run();
    await second;
    const { outcomes } = await reader;
    expect(world.heard).to.include('look n3');
    expect(texts(endOf(outcomes[0])), 'two moments').to.deep.equal([['2', '2']]);
  });
});

// ---- all of them together ----------------------------------------------------------------------

interface Done {
  readonly startMs: number;
  readonly endMs: number;
  /** Its place in the order, which it has read or written itself. */
  readonly place: number;
  /** What it found of both accounts. */
  readonly found: readonly [string | undefined, string | undefined];
  readonly wrote: readonly [string, string] | undefined;
}

const codeOf = (error: unknown): string => {
  if (error instanceof KvError) return error.code;
  throw error;
};

describe('transactions together', function () {
  this.timeout(60_000);
  const storms = fc.record({
    seed: fc.integer({ min: 1, max: 1_000_000 }),
    lossPercent: fc.constantFrom(0, 5, 20, 40),
    delayMsMax: fc.constantFrom(2, 30, 200),
  });

  it('transactions together: strictly serializable under loss and delay, and whole on every replica', async () => {
    await fc.assert(
      fc.asyncProperty(storms, async ({ seed, delayMsMax, lossPercent }) => {
        const fateOf = (_from: number, _node: string, _step: string, random: Prng): Fate => {
          const roll = random.float() * 100;
          return roll >= lossPercent ? 'heard' : roll < lossPercent / 2 ? 'lost' : 'unheard';
        };
        const world = new SerialWorld({ seed, delayMsMax, fateOf });
        const history: Done[] = [];
        const client = async (number: number): Promise<void> => {
          const random = world.random.fork(`client-${number}`);
          for (let turn = 0; turn < 5; turn += 1) {
            await world.sleep(random.float() * 40);
            const startMs = world.nowMs;
            const isRead = random.chance(0.3);
            const wrote = [`${number}.${turn}a`, `${number}.${turn}b`] as const;
            const commands = [
              commandOf(get(a), get(b)),
              commandOf(isRead ? get(c) : add(c)),
              ...(isRead ? [] : [commandOf(set(a, wrote[0])), commandOf(set(b, wrote[1]))]),
            ];
            try {
              const decided = await world.round(number, [transactionOf(commands)], 1_500);
              const { results } = endOf(decided.outcomes[0]);
              const found = results[0]?.steps.map(({ record }) => textOf(record)) ?? [];
              const place = Number(textOf(results[1]?.steps[0]?.record) ?? 0);
              history.push({
                ...{ startMs, endMs: world.nowMs, place },
                found: [found[0], found[1]],
                wrote: isRead ? undefined : wrote,
              });
            } catch (error) {
              if (codeOf(error) === 'TIMEOUT') return;
            }
          }
        };
        const clients = Array.from({ length: 4 }, (_, i) => client(i + 1));
        world.after(100, () => world.away.add('n1'));
        world.after(400, () => world.away.delete('n1'));
        await world.run();
        await Promise.all(clients);
        judge(history);
        for (const held of halves(world))
          expect(held).to.match(/^(-,-|(\d\.\d)a,\2b)$/, 'a part of a transaction');
      }),
      { numRuns: 60 },
    );
  });

  function judge(history: readonly Done[]): void {
    const writers = history.filter(({ wrote }) => wrote !== undefined);
    const places = writers.map(({ place }) => place);
    expect(new Set(places).size, 'two at one place').to.equal(places.length);
    for (const one of history) {
      // Both accounts are of one moment, and of the one right before.
      const [first, second] = one.found;
      expect(first?.slice(0, -1)).to.equal(second?.slice(0, -1));
      const before = writers.find(
        ({ place }) => place === (one.wrote === undefined ? one.place : one.place - 1),
      );
      if (before !== undefined) expect(first).to.equal(before.wrote?.[0]);
      for (const earlier of history)
        if (earlier.endMs < one.startMs)
          expect(one.place).to.be.at.least(earlier.place + (one.wrote === undefined ? 0 : 1));
    }
  }
});
