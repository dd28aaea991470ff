// What the levels do not promise, one scenario each, as docs/consistency.md tells it: a cluster of
// three nodes, requests over REST to a node of choice, a fault at the right moment, and the answer
// that would be wrong under a stronger promise. Beside it the level that does promise more. A
// scenario that stops showing its surprise is a change of what kvd promises: change the text too.

import { expect } from 'chai';
import { defaultTunables, type Tunables } from '../../actors/node/settings.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { SimCluster } from '../../sim/cluster.ts';
import { kvdCodec, kvdProgram, sharedCodecs } from '../../sim/kvd-program.ts';
import { World } from '../../sim/world.ts';
import { callGateway } from './gateway-call.ts';
import { quickNetwork } from './small-cluster.ts';

const names = ['n1', 'n2', 'n3'] as const;
type Name = (typeof names)[number];

const tunables: Tunables = {
  ...defaultTunables(),
  replicationFactor: 3,
  virtualNodes: 8,
  memtableBytes: 256 * 1024,
  walSegmentBytes: 256 * 1024,
  reserveBytes: 0,
  valueBytesMax: 4096,
  inFlightBytes: 64 * 1024,
};

interface Answer {
  readonly status: number;
  /** The value that was read; undefined: there is none. */
  readonly value: unknown;
  readonly code: unknown;
  readonly token: string;
}

interface Asked {
  readonly level: string;
  readonly token?: string;
  readonly deadlineMs?: number;
}

/** The cluster and the requests of one scenario. */
class Stage {
  readonly cluster: SimCluster;

  constructor(seed: number) {
    this.cluster = new SimCluster({
      world: new World({ seed }),
      names,
      program: kvdProgram({ names, shards: 1, durability: 'group', tunables }),
      codec: kvdCodec(),
      codecs: sharedCodecs(),
      network: quickNetwork,
    });
  }

  put(at: Name, value: unknown, asked: Asked): Promise<Answer> {
    return this.#send(at, 'put', JSON.stringify({ value }), asked);
  }

  get(at: Name, asked: Asked): Promise<Answer> {
    return this.#send(at, 'get', undefined, asked);
  }

  increment(at: Name): Promise<Answer> {
    return this.#send(at, 'incr', '{"delta":1}', { level: 'SERIAL' });
  }

  /** Nothing gets from one to the other. */
  cut(from: Name, to: Name): void {
    this.cluster.network.cut(from, to, 'drop');
  }

  isolate(node: Name): void {
    for (const other of names)
      if (other !== node) {
        this.cut(node, other);
        this.cut(other, node);
      }
  }

  heal(): void {
    this.cluster.network.healAll();
  }

  async #send(at: Name, route: string, body: string | undefined, asked: Asked): Promise<Answer> {
    const { level, token, deadlineMs = 1_000 } = asked;
    const call = {
      route,
      params: { key: 'k' },
      headers: {
        'consistency-level': level,
        'x-deadline-ms': String(deadlineMs),
        ...(token === undefined ? {} : { 'x-session-token': token }),
      },
      json: body,
    };
    const { status, body: text, headers } = await callGateway(this.cluster, at, call);
    const { value, code } = JSON.parse(utf8.decode(text)) as { value?: unknown; code?: unknown };
    return { status, value, code, token: headers['x-session-token'] ?? '' };
  }
}

function play(seed: number, scenario: (stage: Stage) => Promise<void>): Promise<void> {
  const stage = new Stage(seed);
  return stage.cluster.world.run(async () => {
    await stage.cluster.startAll();
    await stage.cluster.world.sleep(3_000);
    await scenario(stage);
  });
}

const one = { level: 'ONE' };
const quorum = { level: 'QUORUM' };
const all = { level: 'ALL' };
const serial = { level: 'SERIAL' };

describe('counter-examples', function () {
  this.timeout(60_000);

  it('counter-example: a read at ONE misses a write that was acknowledged at QUORUM', () =>
    play(1, async (stage) => {
      await stage.put('n1', 'old', all);
      stage.isolate('n3');
      expect((await stage.put('n1', 'new', quorum)).status).to.equal(200);
      expect((await stage.get('n3', one)).value, 'stale').to.equal('old');
      const stronger = await stage.get('n3', quorum);
      expect([503, 504], 'no answer rather than a stale one').to.include(stronger.status);
      stage.heal();
      await stage.cluster.world.sleep(2_000);
      expect((await stage.get('n3', quorum)).value).to.equal('new');
    }));

  it('counter-example: at ONE a session token makes the same read right', () =>
    play(1, async (stage) => {
      await stage.put('n1', 'old', all);
      stage.isolate('n3');
      const { token } = await stage.put('n1', 'new', quorum);
      const read = await stage.get('n3', { ...one, token });
      expect(read.status, 'refused, not stale').to.be.above(500);
      stage.heal();
      await stage.cluster.world.sleep(2_000);
      expect((await stage.get('n3', { ...one, token })).value).to.equal('new');
    }));

  it('counter-example: of two concurrent writes one is lost, though ALL acknowledged both', () =>
    play(2, async (stage) => {
      const [a, b] = await Promise.all([stage.put('n1', 'a', all), stage.put('n2', 'b', all)]);
      expect([a.status, b.status]).to.deep.equal([200, 200]);
      const values = new Set<unknown>();
      for (const node of names) values.add((await stage.get(node, all)).value);
      expect(values.size, 'all agree on the one that is left').to.equal(1);
    }));

  it('counter-example: get and put lose counts, increments do not', () =>
    play(3, async (stage) => {
      await stage.put('n1', 0, quorum);
      const add = async (node: Name): Promise<void> => {
        const { value } = await stage.get(node, quorum);
        await stage.put(node, Number(value) + 1, quorum);
      };
      await Promise.all([add('n1'), add('n2'), add('n3')]);
      expect(Number((await stage.get('n1', quorum)).value), 'three were added').to.be.below(3);
      await stage.put('n1', 0, serial);
      await Promise.all(names.map((node) => stage.increment(node)));
      expect((await stage.get('n2', serial)).value).to.equal(3);
    }));

  it('counter-example: a later write loses against an earlier one that it has not seen, by the clocks', () =>
    play(4, async (stage) => {
      stage.cluster.machineOf('n1').clock.jump(400);
      stage.cut('n1', 'n2');
      const first = await stage.put('n1', 'first', quorum);
      expect(first.status, 'n1 and n3 have it').to.equal(200);
      const second = await stage.put('n2', 'second', quorum);
      expect(second.status).to.equal(200);
      stage.heal();
      await stage.cluster.world.sleep(2_000);
      expect((await stage.get('n3', all)).value, 'acknowledged first, and still there').to.equal(
        'first',
      );
    }));

  it('counter-example: in a session the later write wins, whatever the clocks say', () =>
    play(4, async (stage) => {
      stage.cluster.machineOf('n1').clock.jump(400);
      stage.cut('n1', 'n2');
      const { token } = await stage.put('n1', 'first', quorum);
      expect((await stage.put('n2', 'second', { ...quorum, token })).status).to.equal(200);
      stage.heal();
      await stage.cluster.world.sleep(2_000);
      expect((await stage.get('n3', all)).value).to.equal('second');
    }));

  it('counter-example: a write that timed out shows up after a quorum read that did not see it', () =>
    play(5, async (stage) => {
      await stage.put('n1', 'old', all);
      stage.cut('n1', 'n2');
      stage.cut('n1', 'n3');
      const late = await stage.put('n1', 'late', quorum);
      expect([late.status, late.code]).to.deep.equal([504, 'TIMEOUT']);
      expect((await stage.get('n2', quorum)).value, 'n2 and n3').to.equal('old');
      stage.heal();
      await stage.cluster.world.sleep(2_000);
      expect((await stage.get('n1', all)).value).to.equal('late');
    }));

  it('counter-example: a serial read settles what timed out, and later reads agree with it', () =>
    play(5, async (stage) => {
      await stage.put('n1', 'old', serial);
      stage.cut('n1', 'n2');
      stage.cut('n1', 'n3');
      const late = await stage.put('n1', 'late', { ...serial, deadlineMs: 500 });
      expect(late.status, JSON.stringify(late)).to.be.above(499);
      const settled = (await stage.get('n2', { ...serial, deadlineMs: 5_000 })).value;
      stage.heal();
      await stage.cluster.world.sleep(2_000);
      for (const node of names)
        expect((await stage.get(node, serial)).value, node).to.equal(settled);
    }));
});
