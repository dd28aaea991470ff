// Rounds of serial operations against replicas that answer late, never, or twice: what each of them
// ends with, and that all of them together are linearizable.

import { expect } from 'chai';
import fc from 'fast-check';
import { utf8 } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';
import type { Prng } from '../../runtime/prng.ts';
import { recordIsTombstone, recordValue } from '../../actors/model/record.ts';
import type { AcceptorState } from '../../actors/replication/acceptor-state.ts';
import type { SerialRequest } from '../../actors/replication/protocol.ts';
import { SerialHistory } from '../../actors/replication/serial-history.ts';
import type { Evaluated, SerialOutcome } from '../../actors/replication/serial-operations.ts';
import type { Decided } from '../../actors/replication/serial-round.ts';
import { isLinearizable, type RegisterOperation } from '../../sim/linearizability.ts';
import { makeRecord } from '../kit-replication.ts';
import { type Fate, requestOf, SerialWorld, writeOf } from './serial-world.ts';

const textOf = (record: Uint8Array | undefined): string | undefined =>
  record === undefined || recordIsTombstone(record) ? undefined : utf8.decode(recordValue(record));

const outcomeOf = (decided: Decided | string | undefined, i = 0): SerialOutcome => {
  const evaluated: Evaluated | undefined =
    typeof decided === 'object' ? decided.outcomes[i] : undefined;
  if (evaluated === undefined || !('outcome' in evaluated))
    throw new Error(`ended: ${JSON.stringify(decided)}`);
  return evaluated.outcome;
};

/** What the round ends with, or the code of its failure, once the world has come to rest. */
async function ended(world: SerialWorld, round: Promise<Decided>): Promise<Decided | string> {
  const settled = round.catch((error: unknown) => {
    if (error instanceof KvError) return error.code;
    throw error;
  });
  await world.run();
  return settled;
}

const stepsOf = ({ heard }: SerialWorld): string[] => [
  ...new Set(heard.map((each) => each.split(' ', 1)[0] ?? '')),
];
const stateOf = (world: SerialWorld, node: string): AcceptorState =>
  (world.replicas.get(node) as { state: AcceptorState }).state;
const read = requestOf();
const add = requestOf({ verb: 'increment', delta: 1 });

describe('serial round', () => {
  it('serial round: a write is promised, accepted and committed by a majority', async () => {
    const world = new SerialWorld();
    const decided = await ended(world, world.round(1, [writeOf('1')]));
    expect(outcomeOf(decided).isApplied).to.equal(true);
    expect(stepsOf(world)).to.deep.equal(['prepare', 'propose', 'commit']);
    for (const name of world.names) {
      expect(textOf(world.replicas.get(name)?.record)).to.equal('1');
      expect(stateOf(world, name).accepted).to.equal(undefined);
    }
  });

  it('serial round: a read of a quiet key only looks; one of a key that expires takes a ballot', async () => {
    const world = new SerialWorld();
    await ended(world, world.round(1, [writeOf('1')]));
    world.heard.length = 0;
    const decided = await ended(world, world.round(2, [read]));
    expect(textOf(outcomeOf(decided).record)).to.equal('1');
    expect(stepsOf(world)).to.deep.equal(['look']);
    await ended(world, world.round(1, [writeOf('2', { ttlMs: 90_000 })]));
    world.heard.length = 0;
    const expiring = await ended(world, world.round(2, [read]));
    expect(textOf(outcomeOf(expiring).record)).to.equal('2');
    expect(stepsOf(world)).to.deep.equal(['look', 'prepare']);
  });

  /** Proposals of proposer 1 reach the given nodes alone, its commits nobody. */
  const halfDone =
    (...reached: readonly string[]) =>
    (from: number, node: string, step: string): Fate => {
      if (from !== 1 || step === 'prepare') return 'heard';
      return step === 'propose' && reached.includes(node) ? 'unheard' : 'lost';
    };

  for (const reached of [['n1'], ['n1', 'n2'], ['n1', 'n2', 'n3']])
    it(`serial round: a read ends what ${reached.length} of 3 had accepted one way for ever (PX-7)`, async () => {
      const world = new SerialWorld({ fateOf: halfDone(...reached) });
      const broken = await ended(world, world.round(1, [writeOf('1')], 50));
      expect(broken).to.equal('TIMEOUT');
      const first = outcomeOf(await ended(world, world.round(2, [read])));
      if (reached.length > 1) expect(textOf(first.record)).to.equal('1');
      for (let i = 0; i < 5; i += 1) {
        const again = outcomeOf(await ended(world, world.round(3, [read])));
        expect(textOf(again.record)).to.equal(textOf(first.record));
      }
    });

  it('serial round: a read or failed condition ends a round that has promises (PX-9, CASSANDRA-12126)', async () => {
    const failing = writeOf('2', { condition: { kind: 'exists' } });
    for (const request of [read, failing]) {
      let late = (): void => undefined;
      const world = new SerialWorld({
        fateOf: (from, _node, step) => (from === 1 && step === 'propose' ? 'lost' : 'heard'),
      });
      const broken = world.round(1, [writeOf('1')], 40).catch(() => late());
      const outcome = new Promise<Decided>((resolve, reject) => {
        late = () => void world.round(2, [request]).then(resolve, reject);
      });
      const decided = await ended(world, outcome);
      await broken;
      expect(textOf(outcomeOf(decided).record)).to.equal(undefined);
      expect(stepsOf(world).filter((step) => step !== 'look')).to.deep.equal([
        'prepare',
        'propose',
      ]);
      for (const name of world.names) {
        expect(stateOf(world, name).accepted?.records ?? []).to.deep.equal([]);
        expect(world.replicas.get(name)?.record).to.equal(undefined);
      }
    }
  });

  it('serial round: replicas that lack the newest decision get it before anything is read (PX-7 b)', async () => {
    const world = new SerialWorld({
      fateOf: (from, node, step) =>
        from === 1 && node !== 'n1' && step === 'commit' ? 'lost' : 'heard',
    });
    expect(await ended(world, world.round(1, [writeOf('1')], 50))).to.equal('TIMEOUT');
    world.away.add('n3');
    const decided = await ended(world, world.round(2, [add]));
    expect(outcomeOf(decided).number).to.equal(2);
    expect(textOf(world.replicas.get('n2')?.record)).to.equal('2');
  });

  it('serial round: an update that another round has finished is done once (PX-12)', async () => {
    let isOthersTurn = true;
    const world = new SerialWorld({
      fateOf: (from, node, step) => {
        if (from !== 1 || !isOthersTurn) return 'heard';
        if (step === 'prepare') return 'heard';
        return step === 'propose' && node === 'n1' ? 'unheard' : 'lost';
      },
    });
    const first = world.round(1, [add], 4_000);
    let second: Promise<Decided> | undefined;
    world.after(20, () => {
      second = world.round(2, [add, read]);
      void second.then(() => {
        isOthersTurn = false;
      });
    });
    const mine = outcomeOf(await ended(world, first));
    const others = outcomeOf(await second);
    expect([mine.number, others.number].sort()).to.deep.equal([1, 2]);
    expect(textOf(world.replicas.get('n1')?.record)).to.equal('2');
    expect(world.labels.has('unfinished decision completed')).to.equal(true);
  });

  it('serial round: an update that another round has finished is held by a majority when it is acknowledged (PX-7 b, PX-11)', async () => {
    let isOthersTurn = true;
    const world = new SerialWorld({
      fateOf: (from, node, step) => {
        if (!isOthersTurn || step === 'prepare') return 'heard';
        if (from === 1) return 'unheard';
        return step === 'propose' || node === 'n1' ? 'heard' : 'lost';
      },
    });
    const first = world.round(1, [add], 4_000);
    world.after(20, () => {
      void world.round(2, [add], 100).catch(() => {
        isOthersTurn = false;
      });
    });
    let holders = 0;
    void first.then(() => {
      holders = [...world.replicas.values()].filter(({ record }) => record !== undefined).length;
    });
    expect(outcomeOf(await ended(world, first)).number).to.equal(1);
    expect(holders).to.be.at.least(2);
  });

  it('serial round: too few replicas before anything was proposed is UNAVAILABLE, after it TIMEOUT', async () => {
    const world = new SerialWorld({ fateOf: halfDone('n1') });
    world.away.add('n1').add('n2');
    expect(await ended(world, world.round(2, [writeOf('1')]))).to.equal('UNAVAILABLE');
    world.away.clear();
    const round = world.round(1, [writeOf('1')]);
    world.after(15, () => world.away.add('n2').add('n3'));
    expect(await ended(world, round)).to.equal('TIMEOUT');
  });

  it('serial round: what was never proposed ends as CONTENTION, with no effect ever (PX-14)', async () => {
    const world = new SerialWorld({
      fateOf: (from, _node, step) => (from === 1 && step === 'prepare' ? 'lost' : 'heard'),
    });
    expect(await ended(world, world.round(1, [writeOf('1')], 300))).to.equal('CONTENTION');
    const decided = await ended(world, world.round(2, [read]));
    expect(outcomeOf(decided).record).to.equal(undefined);
  });

  it('serial round: an update is stamped above all that a majority holds (PX-10)', async () => {
    const world = new SerialWorld();
    const future = makeRecord('key', { hlc: (1_700_000_000_000 + 400) * 1000, value: '5' });
    const replica = world.replicas.get('n2');
    if (replica !== undefined) replica.record = future;
    world.away.add('n3');
    const decided = await ended(world, world.round(1, [add]));
    expect(outcomeOf(decided).number).to.equal(6);
    for (const name of ['n1', 'n2']) expect(textOf(world.replicas.get(name)?.record)).to.equal('6');
  });

  it('serial round: a key from a clock far ahead is read, and written by nobody (HLC-5)', async () => {
    const world = new SerialWorld();
    const hlc = (1_700_000_000_000 + 86_400_000) * 1000;
    for (const replica of world.replicas.values())
      replica.record = makeRecord('key', { hlc, value: '5' });
    const round = await ended(world, world.round(1, [add, read]));
    if (typeof round === 'string') throw new Error(round);
    const [added, found] = round.outcomes;
    expect(added !== undefined && 'refusal' in added && added.refusal.code).to.equal(
      'FUTURE_VERSION',
    );
    expect(found !== undefined && 'outcome' in found && textOf(found.outcome.record)).to.equal('5');
    const again = await ended(world, world.round(2, [read]));
    expect(textOf(outcomeOf(again).record)).to.equal('5');
  });

  it('serial round: a key expires at one moment for all rounds, also for those behind (PX-8)', async () => {
    const world = new SerialWorld();
    await ended(world, world.round(1, [writeOf('1', { ttlMs: 20_000 })]));
    const decided = await ended(world, world.round(1, [read]));
    expect(textOf(outcomeOf(decided).record)).to.equal('1');
    world.nowMs = 20_100;
    const gone = await ended(world, world.round(2, [read]));
    expect(outcomeOf(gone).record).to.equal(undefined);
    world.nowMs = 19_800;
    const behind = await ended(world, world.round(3, [read]));
    expect(outcomeOf(behind).record).to.equal(undefined);
  });

  it('serial round: the history names each decision once, in its order', async () => {
    const world = new SerialWorld({ seed: 9 });
    for (let i = 0; i < 6; i += 1) await ended(world, world.round(1 + (i % 2), [add]));
    const { ballots } = SerialHistory.decode(stateOf(world, 'n1').committed.history);
    expect(ballots.length).to.equal(6);
    expect(new Set(ballots.map(({ hlc }) => hlc)).size).to.equal(6);
    expect(ballots.map(({ hlc }) => hlc)).to.deep.equal(
      ballots.map(({ hlc }) => hlc).sort((a, b) => a - b),
    );
  });
});

// ---- all of them together ----------------------------------------------------------------------

interface Storm {
  readonly seed: number;
  readonly replicas: number;
  readonly lossPercent: number;
  readonly delayMsMax: number;
}

const storms = fc.record({
  seed: fc.integer({ min: 1, max: 1_000_000 }),
  replicas: fc.constantFrom(1, 3, 5),
  lossPercent: fc.constantFrom(0, 5, 20, 40),
  delayMsMax: fc.constantFrom(2, 30, 200),
});
const proposers = 4;
const rounds = 5;

function stormy({ lossPercent, ...options }: Storm): SerialWorld {
  const fateOf = (_from: number, _node: string, _step: string, random: Prng): Fate => {
    const roll = random.float() * 100;
    return roll >= lossPercent ? 'heard' : roll < lossPercent / 2 ? 'lost' : 'unheard';
  };
  return new SerialWorld({ ...options, fateOf });
}

/** Each proposer runs rounds one after the other until it cannot know an outcome. */
async function play(
  world: SerialWorld,
  run: (proposer: number, random: Prng) => Promise<boolean>,
): Promise<void> {
  const proposer = async (number: number): Promise<void> => {
    const random = world.random.fork(`client-${number}`);
    for (let i = 0; i < rounds; i += 1) {
      await world.sleep(random.float() * 40);
      if (!(await run(number, random))) return;
    }
  };
  const all = Array.from({ length: proposers }, (_, i) => proposer(i + 1));
  // A replica that is away for a while knows what it knew when it is back.
  world.after(100, () => world.away.add('n1'));
  world.after(400, () => world.away.delete('n1'));
  await world.run();
  await Promise.all(all);
}

const codeOf = (error: unknown): string => {
  if (error instanceof KvError) return error.code;
  throw error;
};

function drawn(random: Prng): { operation: Omit<RegisterOperation, 'startMs' | 'endMs'> } & {
  request: SerialRequest;
} {
  const value = String(random.int(3));
  const choice = random.int(4);
  if (choice === 0) return { request: read, operation: { kind: 'read', value: undefined } };
  if (choice === 1) return { request: writeOf(value), operation: { kind: 'write', value } };
  if (choice === 2)
    return {
      request: requestOf({ verb: 'delete' }),
      operation: { kind: 'delete', value: undefined },
    };
  const expected = String(random.int(3));
  const condition = { kind: 'value', value: utf8.encode(expected) } as const;
  return {
    request: writeOf(value, { condition }),
    operation: { kind: 'cas', value, expected },
  };
}

describe('serial rounds together', function () {
  this.timeout(60_000);

  it('serial rounds: reads, writes, deletes and conditions are linearizable under loss and delay (G3)', async () => {
    await fc.assert(
      fc.asyncProperty(storms, async (storm) => {
        const world = stormy(storm);
        const history: RegisterOperation[] = [];
        await play(world, async (number, random) => {
          const { request, operation } = drawn(random);
          const startMs = world.nowMs;
          try {
            const decided = await world.round(number, [request], 1_500);
            const { record, isApplied } = outcomeOf(decided);
            const found = operation.kind === 'read' ? { value: textOf(record) } : {};
            history.push({
              ...operation,
              ...found,
              wasMet: isApplied,
              startMs,
              endMs: world.nowMs,
            });
            return true;
          } catch (error) {
            const isUnknown = codeOf(error) === 'TIMEOUT';
            if (isUnknown && operation.kind !== 'read')
              history.push({ ...operation, startMs, endMs: Infinity });
            return !isUnknown;
          }
        });
        expect(isLinearizable(history)).to.equal('yes');
      }),
      { numRuns: 60 },
    );
  });

  it('serial rounds: increments are counted once each, whatever is lost on the way (G11)', async () => {
    await fc.assert(
      fc.asyncProperty(storms, async (storm) => {
        const world = stormy(storm);
        const results: number[] = [];
        let unknown = 0;
        await play(world, async (number) => {
          try {
            const requests = [add, add];
            const decided = await world.round(number, requests, 1_500);
            for (const i of requests.keys()) results.push(outcomeOf(decided, i).number ?? 0);
            return true;
          } catch (error) {
            if (codeOf(error) !== 'TIMEOUT') return true;
            unknown += 2;
            return false;
          }
        });
        expect(new Set(results).size).to.equal(results.length);
        const newest = [...world.replicas.values()].map(({ record }) =>
          Number(textOf(record) ?? 0),
        );
        const total = Math.max(...newest);
        expect(total).to.be.at.least(results.length);
        expect(total).to.be.at.most(results.length + unknown);
      }),
      { numRuns: 60 },
    );
  });
});
