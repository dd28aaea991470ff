// Who needs a hint: nobody before some replica has the write, then everyone who lacks it.

import { expect } from 'chai';
import { MissedReplicas } from '../../actors/replication/missed-replicas.ts';
import { failure } from '../../runtime/errors.ts';

const slow = failure('TIMEOUT');

describe('missed-replicas', () => {
  it('missed-replicas: those that were down are named with the first acknowledgement', () => {
    const missed = new MissedReplicas(['n3']);
    expect(missed.answered('n1', undefined)).to.deep.equal(['n3']);
    expect(missed.answered('n2', undefined)).to.deep.equal([]);
  });

  it('missed-replicas: one that fails later is named at once', () => {
    const missed = new MissedReplicas([]);
    expect(missed.answered('n1', undefined)).to.deep.equal([]);
    expect(missed.answered('n2', slow)).to.deep.equal(['n2']);
  });

  it('missed-replicas: one that failed earlier is named with the first acknowledgement', () => {
    const missed = new MissedReplicas(['n3']);
    expect(missed.answered('n2', slow)).to.deep.equal([]);
    expect(missed.answered('n1', undefined)).to.deep.equal(['n3', 'n2']);
  });

  it('missed-replicas: a write that nobody took is hinted to nobody (HH-2)', () => {
    const missed = new MissedReplicas(['n3']);
    for (const node of ['n1', 'n2']) expect(missed.answered(node, slow)).to.deep.equal([]);
  });
});
