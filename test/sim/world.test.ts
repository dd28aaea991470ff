// Virtual time: order of events, determinism, and the guard against the real world.

import { expect } from 'chai';
import { firstDifference, Trace, windowOf } from '../../sim/trace.ts';
import { StuckError, World } from '../../sim/world.ts';

const failureOf = async (work: Promise<unknown>): Promise<Error> => {
  try {
    await work;
  } catch (error) {
    return error as Error;
  }
  throw new Error('it did not fail');
};

describe('sim world', () => {
  it('world: events run in the order of their times, equal times in the order of their making', async () => {
    const world = new World({ seed: 1 });
    const order: string[] = [];
    await world.run(async () => {
      world.after(20, undefined, 'e', () => order.push('c'));
      world.after(10, undefined, 'e', () => order.push('a'));
      world.after(10, undefined, 'e', () => order.push('b'));
      await world.sleep(30);
    });
    expect(order).to.deep.equal(['a', 'b', 'c']);
  });

  it('world: all promise reactions of an event run before the next event (depth=50)', async () => {
    const world = new World({ seed: 1 });
    const order: string[] = [];
    await world.run(async () => {
      world.after(1, undefined, 'first', () => {
        void (async () => {
          for (let i = 0; i < 50; i += 1) await Promise.resolve();
          order.push('reactions of the first');
        })();
      });
      world.after(1, undefined, 'second', () => order.push('second'));
      await world.sleep(5);
    });
    expect(order).to.deep.equal(['reactions of the first', 'second']);
  });

  it('world: what is to run soon runs before other events of the moment, what is later after them', async () => {
    const world = new World({ seed: 1 });
    const order: string[] = [];
    await world.run(async () => {
      world.after(1, undefined, 'e', () => {
        world.later(undefined, 'later', () => order.push('later'));
        world.soon(undefined, () => order.push('soon'));
      });
      world.after(1, undefined, 'e', () => order.push('waiting'));
      await world.sleep(5);
    });
    expect(order).to.deep.equal(['soon', 'waiting', 'later']);
  });

  it('world: random ties give other orders for other seeds, the same for the same seed (events=8)', async () => {
    const orderOf = async (seed: number): Promise<string> => {
      const world = new World({ seed, ties: 'random' });
      const order: number[] = [];
      await world.run(async () => {
        for (let i = 0; i < 8; i += 1) world.after(1, undefined, 'e', () => order.push(i));
        await world.sleep(5);
      });
      return order.join();
    };
    expect(await orderOf(7)).to.equal(await orderOf(7));
    expect(await orderOf(7)).to.not.equal(await orderOf(8));
    expect(await orderOf(7)).to.not.equal('0,1,2,3,4,5,6,7');
  });

  it('world: a cancelled event does not run', async () => {
    const world = new World({ seed: 1 });
    let count = 0;
    await world.run(async () => {
      world.after(1, undefined, 'e', () => (count += 1)).cancel();
      await world.sleep(5);
    });
    expect(count).to.equal(0);
  });

  it('world: events of the dead are dropped, those of the paused wait for their end', async () => {
    const world = new World({ seed: 1 });
    const dead = { name: 'dead', isAlive: false, pausedUntilMicros: 0 };
    const paused = { name: 'paused', isAlive: true, pausedUntilMicros: 50_000 };
    const times: string[] = [];
    await world.run(async () => {
      world.after(1, dead, 'e', () => times.push('dead'));
      world.after(1, paused, 'e', () => times.push(`paused ${world.nowMs}`));
      await world.sleep(100);
    });
    expect(times).to.deep.equal(['paused 50']);
  });

  it('world: a scenario that waits for nothing is an error at once', async () => {
    const world = new World({ seed: 1 });
    const error = await failureOf(world.run(() => new Promise(() => undefined)));
    expect(error).to.be.instanceOf(StuckError);
  });

  it('world: an event that throws ends the run with its error', async () => {
    const world = new World({ seed: 1 });
    const error = await failureOf(
      world.run(async () => {
        world.after(1, undefined, 'e', () => {
          throw new Error('thrown in an event');
        });
        await world.sleep(10);
      }),
    );
    expect(error.message).to.equal('thrown in an event');
  });

  it('world: a scenario that throws ends the run with its error', async () => {
    const world = new World({ seed: 1 });
    const error = await failureOf(world.run(() => Promise.reject(new Error('of the scenario'))));
    expect(error.message).to.equal('of the scenario');
  });

  it('world: ten thousand events go through turns of the event loop and stay in order', async () => {
    const world = new World({ seed: 1 });
    let last = -1;
    await world.run(async () => {
      for (let i = 0; i < 10_000; i += 1)
        world.after(i, undefined, 'e', () => {
          expect(i).to.equal(last + 1);
          last = i;
        });
      await world.sleep(20_000);
    });
    expect(last).to.equal(9_999);
  });
});

describe('sim guard', () => {
  const uses: readonly (readonly [string, () => unknown])[] = [
    ['Date.now', () => Date.now()],
    ['Date.now', () => new Date()],
    ['Math.random', () => Math.random()],
    ['performance.now', () => performance.now()],
    ['setTimeout', () => setTimeout(() => undefined, 1)],
    ['setImmediate', () => setImmediate(() => undefined)],
  ];
  for (const [what, use] of uses)
    it(`canary: ${what} fails the run even where the caller catches it (${String(use)}, RP-4)`, async () => {
      const world = new World({ seed: 1 });
      const error = await failureOf(
        world.run(async () => {
          world.after(1, undefined, 'e', () => {
            try {
              use();
            } catch {
              // As careless code would.
            }
          });
          await world.sleep(10);
        }),
      );
      expect(error.message).to.match(new RegExp(`^${what} was used`));
    });

  it('canary: dates of given times stay possible, and all is back after the run', async () => {
    const before = Date.now;
    const { random } = Math;
    const world = new World({ seed: 1 });
    await world.run(async () => {
      await world.sleep(1);
      expect(new Date(86_400_000).toISOString()).to.equal('1970-01-02T00:00:00.000Z');
    });
    expect(Date.now).to.equal(before);
    expect(Math.random).to.equal(random);
    expect(setTimeout.name).to.equal('setTimeout');
  });
});

describe('sim trace', () => {
  it('trace: the hash depends on time, node, kind, payload and order', () => {
    const hashOf = (entries: readonly (readonly [number, string, string, number])[]): number => {
      const trace = new Trace();
      for (const entry of entries) trace.record(...entry);
      return trace.hash;
    };
    const base: readonly [number, string, string, number] = [5, 'n1', 'timer', 7];
    const hashes = [
      hashOf([base]),
      hashOf([[6, 'n1', 'timer', 7]]),
      hashOf([[5, 'n2', 'timer', 7]]),
      hashOf([[5, 'n1', 'message', 7]]),
      hashOf([[5, 'n1', 'timer', 8]]),
      hashOf([base, [5, 'n1', 'timer', 8]]),
      hashOf([[5, 'n1', 'timer', 8], base]),
    ];
    expect(new Set(hashes).size).to.equal(hashes.length);
    expect(hashOf([base])).to.equal(hashes[0]);
  });

  it('trace: checkpoints lead to the first entry that differs (entries=5000, difference=3210)', () => {
    const play = (changed: number, window?: { from: number; to: number }): Trace => {
      const trace = new Trace(window);
      for (let i = 0; i < 5_000; i += 1) trace.record(i, 'n1', 'e', i === changed ? 1 : 0);
      return trace;
    };
    const at = firstDifference(play(-1).checkpoints, play(3_210).checkpoints);
    expect(at).to.equal(3);
    const a = play(-1, windowOf(3)).lines;
    const b = play(3_210, windowOf(3)).lines;
    expect(a.findIndex((line, i) => line !== b[i])).to.equal(210);
  });
});
