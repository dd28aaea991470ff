// When a change of the namespaces is answered. The node that made it is cut off in the moment in which
// it is decided, so that nobody else acts by it yet: the others go on with what they know.

import { expect } from 'chai';
import { Catalog, type CatalogBytes, type NamespaceChange } from '../../actors/catalog/protocol.ts';
import { refTo } from '../../runtime/actor.ts';
import type { ClientAnswer } from '../../sim/cluster.ts';
import { ReplicasUnderTest } from '../sim/replicas-under-test.ts';

const changeMs = 5_000;

describe('catalog: answers of changes', () => {
  it('catalog: a drop is not answered while a quorum takes writes to what was dropped', async () => {
    const replicas = new ReplicasUnderTest();
    const { network } = replicas.cluster;
    const change = (body: NamespaceChange): Promise<ClientAnswer<CatalogBytes>> =>
      replicas.cluster.ask(refTo(Catalog, 'n1'), 'change', body, changeMs);
    await replicas.run(async () => {
      expect((await change({ kind: 'create', name: 'a', settings: {} })).kind).to.equal('reply');
      await replicas.write('n2', 'key', 'before', 'QUORUM', 1);
      const changes = replicas.reached('namespace changed');
      const dropping = change({ kind: 'drop', name: 'a' });
      while (replicas.reached('namespace changed') === changes) await replicas.sleep(0.000_05);
      for (const other of ['n2', 'n3'])
        for (const [from, to] of [
          ['n1', other],
          [other, 'n1'],
        ] as const)
          network.cut(from, to, 'drop');
      const { kind } = await dropping;
      // n2 and n3 have heard nothing: this is what an answer would have promised not to happen.
      await replicas.write('n2', 'key', 'after', 'QUORUM', 1);
      expect(kind, 'a drop was answered, and a write after it taken').to.equal('failure');
      network.healAll();
      await replicas.sleep(10);
      const late = await replicas
        .write('n2', 'key', 'late', 'QUORUM', 1)
        .then(() => 'taken', String);
      expect(late, 'a write where all know of the drop').to.include('NO_SUCH_NAMESPACE');
    });
  });
});
