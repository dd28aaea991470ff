// Who is the primary of which range, and that a takeover is seen in log and figures.

import { expect } from 'chai';
import {
  type Liveness,
  primariesOf,
  primaryShares,
  takeoversBy,
} from '../../actors/model/primaries.ts';
import { Ring } from '../../actors/model/ring.ts';
import { primaryWatch } from '../../actors/membership/primary-watch.actor.ts';
import { type PeerCondition, PrimaryWatch } from '../../actors/membership/protocol.ts';
import { refTo } from '../../runtime/actor.ts';
import { Kit } from '../kit.ts';

const half = 0x8000_0000;
const ranges = [
  { after: half, to: 0, replicas: ['n1', 'n2'] },
  { after: 0, to: half / 2, replicas: ['n2', 'n3'] },
  { after: half / 2, to: half, replicas: ['n3', 'n1'] },
];
const lives = (known: Record<string, Liveness>) => (node: string) => known[node] ?? 'alive';

describe('primaries', () => {
  it('primaries: the first replica that is alive, else the first that is suspected, else none', () => {
    expect(primariesOf(ranges, lives({}))).to.deep.equal(['n1', 'n2', 'n3']);
    expect(primariesOf(ranges, lives({ n1: 'suspected' }))).to.deep.equal(['n2', 'n2', 'n3']);
    expect(primariesOf(ranges, lives({ n1: 'dead', n2: 'suspected' }))).to.deep.equal([
      'n2',
      'n3',
      'n3',
    ]);
    const dead = lives({ n1: 'dead', n2: 'dead' });
    expect(primariesOf(ranges, dead)).to.deep.equal([undefined, 'n3', 'n3']);
  });

  it('primaries: shares add up to all tokens, also around the end of the ring', () => {
    const primaries = primariesOf(ranges, lives({}));
    expect([...primaryShares(ranges, primaries)]).to.deep.equal([
      ['n1', 0.5],
      ['n2', 0.25],
      ['n3', 0.25],
    ]);
    const ring = new Ring({ members: ['a', 'b', 'c'], virtualNodes: 64, replicationFactor: 2 });
    const shares = primaryShares(ring.ranges(), primariesOf(ring.ranges(), lives({})));
    expect([...shares.values()].reduce((sum, share) => sum + share, 0)).to.be.closeTo(1, 1e-9);
  });

  it('primaries: a takeover names who had the ranges, and takes only those that moved', () => {
    const before = primariesOf(ranges, lives({}));
    const now = primariesOf(ranges, lives({ n1: 'dead' }));
    expect(takeoversBy('n2', ranges, before, now)).to.deep.equal([
      { from: 'n1', ranges: 1, share: 0.5 },
    ]);
    expect(takeoversBy('n3', ranges, before, now)).to.deep.equal([]);
    const none = [undefined, 'n2', 'n3'];
    expect(takeoversBy('n2', ranges, none, now)[0]?.from).to.equal(undefined);
  });

  it('primary watch: what is taken over and given back is logged and counted once', async () => {
    const kit = new Kit([PrimaryWatch]);
    await kit.spawn(primaryWatch, { ranges: [{ after: 0, to: half, replicas: ['n2', 'n1'] }] });
    const hear = async (condition: PeerCondition): Promise<void> => {
      const peers = ['n1', 'n2'].map((node) => ({
        node,
        condition: node === 'n1' ? ('alive' as const) : condition,
        phi: 0,
        shards: 1,
      }));
      kit.kernel.tell(refTo(PrimaryWatch, 'n1'), 'peersChanged', { peers });
      await kit.host.settle();
    };
    const events = (): string[] =>
      kit.host.logged.map(({ event }) => event).filter((event) => event.startsWith('primary.'));
    await hear('alive');
    expect(events()).to.deep.equal([]);
    await hear('dead');
    await hear('dead');
    expect(events()).to.deep.equal(['primary.taken-over']);
    const logged = kit.host.logged.find(({ event }) => event === 'primary.taken-over');
    expect(logged?.fields).to.include({ from: 'n2', ranges: 1, share: 0.5 });
    await hear('alive');
    expect(events()).to.deep.equal(['primary.taken-over', 'primary.handed-back']);
  });
});
