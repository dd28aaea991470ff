// Who is asked when, and when it is over. No cluster: answers come when the test gives them.

import { expect } from 'chai';
import { KvError } from '../../runtime/errors.ts';
import { askQuorum, type Votes } from '../../runtime/quorum.ts';

interface Asked {
  readonly node: string;
  readonly answer: (isYes: boolean) => void;
  readonly fail: () => void;
}

/** Three nodes, two needed; `spares`: when the third may be asked. */
class Vote {
  readonly asked: Asked[] = [];
  readonly votes: Promise<Votes<boolean>>;

  constructor(spares?: () => Promise<unknown>) {
    const ask = (node: string): Promise<boolean> =>
      new Promise((resolve, reject) => {
        const fail = (): void => reject(new KvError('UNREACHABLE', { node }));
        this.asked.push({ node, answer: resolve, fail });
      });
    this.votes = askQuorum(['a', 'b', 'c'], 2, ask, (isYes) => isYes, spares);
  }

  get nodes(): string {
    return this.asked.map(({ node }) => node).join('');
  }

  /** Answers `node`, and lets what follows from it happen. */
  async say(node: string, answer: 'yes' | 'no' | 'nothing'): Promise<void> {
    const asked = this.asked.find((one) => one.node === node);
    if (answer === 'nothing') asked?.fail();
    else asked?.answer(answer === 'yes');
    await new Promise((resolve) => setImmediate(resolve));
  }
}

const never = (): Promise<unknown> => new Promise(() => undefined);

describe('quorum', () => {
  it('quorum: without spares everybody is asked at once, and enough answers end it', async () => {
    const vote = new Vote();
    expect(vote.nodes).to.equal('abc');
    await vote.say('c', 'yes');
    await vote.say('a', 'yes');
    const { yes, isEnough } = await vote.votes;
    expect([yes.map(({ node }) => node), isEnough]).to.deep.equal([['c', 'a'], true]);
  });

  for (const answer of ['no', 'nothing'] as const)
    it(`quorum: a spare is asked for one that says ${answer}`, async () => {
      const vote = new Vote(never);
      expect(vote.nodes).to.equal('ab');
      await vote.say('a', answer);
      expect(vote.nodes).to.equal('abc');
      await vote.say('c', 'yes');
      await vote.say('b', 'yes');
      expect((await vote.votes).isEnough).to.equal(true);
    });

  it('quorum: all spares are asked when it takes too long', async () => {
    let elapse: () => void = () => undefined;
    const vote = new Vote(() => new Promise<void>((resolve) => (elapse = resolve)));
    await vote.say('a', 'yes');
    expect(vote.nodes).to.equal('ab');
    elapse();
    await vote.say('', 'nothing');
    expect(vote.nodes).to.equal('abc');
    await vote.say('c', 'yes');
    expect((await vote.votes).yes.map(({ node }) => node)).to.deep.equal(['a', 'c']);
  });

  it('quorum: it ends when too few can still say yes, and asks nobody after that', async () => {
    const vote = new Vote(never);
    await vote.say('a', 'no');
    await vote.say('b', 'nothing');
    const { yes, no, problems, isEnough } = await vote.votes;
    expect([yes.length, no.length, problems.length, isEnough]).to.deep.equal([0, 1, 1, false]);
    expect(vote.nodes).to.equal('abc');
  });
});
