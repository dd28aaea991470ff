// The merge rule of gossip (GO-2): news may be lost, repeated and reordered.

import { expect } from 'chai';
import fc from 'fast-check';
import type { NodeState } from '../../actors/membership/protocol.ts';
import { compare, digestsOf, isNewer, merged, type View } from '../../actors/membership/view.ts';
import { nodeState } from './states.ts';

/** States of three nodes; one (node, generation, heartbeat) always says the same, as nodes do. */
const states = fc
  .tuple(fc.constantFrom('n1', 'n2', 'n3'), fc.integer({ min: 1, max: 3 }), fc.nat(3))
  .map(([node, generation, heartbeat]) =>
    nodeState(node, { generation, heartbeat, httpPort: generation * 10 + heartbeat }),
  );

const empty: View = new Map();
const viewOf = (news: readonly NodeState[]): View =>
  news.reduce<View>((view, state) => merged(view, state).view, empty);
const byNode = (view: View): NodeState[] =>
  [...view.values()].sort((a, b) => (a.node < b.node ? -1 : 1));

describe('view', () => {
  it('view: a higher generation is newer whatever its heartbeat, then a higher heartbeat', () => {
    const at = (generation: number, heartbeat: number) => ({ node: 'n1', generation, heartbeat });
    expect(isNewer(at(2, 0), at(1, 900))).to.equal(true);
    expect(isNewer(at(1, 900), at(2, 0))).to.equal(false);
    expect(isNewer(at(2, 6), at(2, 5))).to.equal(true);
    expect(isNewer(at(2, 5), at(2, 5))).to.equal(false);
    expect(isNewer(at(2, 4), at(2, 5))).to.equal(false);
    expect(isNewer(at(0, 0), undefined)).to.equal(true);
  });

  it('view: the order of news and repeats do not matter', () => {
    const news = fc
      .array(states, { minLength: 1, maxLength: 8 })
      .chain((list) =>
        fc.tuple(
          fc.constant(list),
          fc.shuffledSubarray([...list, ...list], { minLength: list.length * 2 }),
        ),
      );
    fc.assert(
      fc.property(news, ([list, shuffled]) => {
        expect(byNode(viewOf(shuffled))).to.deep.equal(byNode(viewOf(list)));
      }),
    );
  });

  it('view: merging replaces a state as a whole, says whether it was news, changes no old view', () => {
    fc.assert(
      fc.property(fc.array(states, { maxLength: 6 }), states, (list, state) => {
        const view = viewOf(list);
        const before = byNode(view);
        const expected = isNewer(state, view.get(state.node));
        const { view: next, isNews } = merged(view, state);
        expect(isNews).to.equal(expected);
        expect(byNode(view)).to.deep.equal(before);
        expect(next.get(state.node)).to.deep.equal(expected ? state : view.get(state.node));
        expect(merged(next, state).isNews).to.equal(false);
      }),
    );
  });

  it('view: one exchange of digests makes two views equal', () => {
    const views = fc.array(states, { maxLength: 8 }).map(viewOf);
    fc.assert(
      fc.property(views, views, (mine, theirs) => {
        const answer = compare(theirs, digestsOf(mine));
        const wanted = answer.wanted.map((node) => mine.get(node) as NodeState);
        const after = answer.states.reduce((view, state) => merged(view, state).view, mine);
        const theirsAfter = wanted.reduce((view, state) => merged(view, state).view, theirs);
        expect(byNode(after)).to.deep.equal(byNode(theirsAfter));
        expect(byNode(after)).to.deep.equal(byNode(viewOf([...mine.values(), ...theirs.values()])));
      }),
    );
  });

  it('view: an exchange sends and asks for what is newer only', () => {
    const view = viewOf([nodeState('n1', { heartbeat: 5 }), nodeState('n2', { heartbeat: 5 })]);
    const digest = (node: string, heartbeat: number) => ({ node, generation: 1, heartbeat });
    const equal = compare(view, [digest('n1', 5), digest('n2', 5)]);
    expect(equal).to.deep.equal({ states: [], wanted: [] });
    const mixed = compare(view, [digest('n1', 4), digest('n2', 6), digest('n3', 0)]);
    expect(mixed.states.map(({ node }) => node)).to.deep.equal(['n1']);
    expect(mixed.wanted).to.deep.equal(['n2', 'n3']);
  });
});
