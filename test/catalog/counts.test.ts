// Counts of namespaces with a quota, over a store that refuses pages: the test plays the store of
// the only node, in its own time.

import { expect } from 'chai';
import { catalog, type CatalogOptions } from '../../actors/catalog/catalog.actor.ts';
import { changed } from '../../actors/catalog/changes.ts';
import { Catalog } from '../../actors/catalog/protocol.ts';
import { Gossiper } from '../../actors/membership/protocol.ts';
import { encodeCatalog, firstDocument, type Usage } from '../../actors/model/namespaces.ts';
import { recordKey } from '../../actors/model/record.ts';
import { Ring } from '../../actors/model/ring.ts';
import { Proposer } from '../../actors/replication/protocol.ts';
import { type RangeRequest, Store } from '../../actors/storage/protocol.ts';
import { actor, type Context, refTo } from '../../runtime/actor.ts';
import { justAfter } from '../../runtime/bytes.ts';
import { type BodyOf, type Handlers, protocol, tell } from '../../runtime/protocol.ts';
import { MemoryDisk } from '../kit-disk.ts';
import { type Asked, hexOf, makeRecord, ReplicaKit } from '../kit-replication.ts';

const Listener = protocol('listener', 220, {
  usageChanged: tell<{ readonly usages: readonly Usage[] }>(1),
});

type Listener = typeof Listener.messages;

class ListenerActor implements Handlers<Listener> {
  readonly #heard: (readonly Usage[])[];

  constructor(heard: (readonly Usage[])[]) {
    this.#heard = heard;
  }

  usageChanged({ usages }: BodyOf<Listener['usageChanged']>): void {
    this.#heard.push(usages);
  }
}

const listener = actor({
  protocol: Listener,
  create: (_ctx: Context, heard: (readonly Usage[])[]) => new ListenerActor(heard),
});

const withQuota = (name: string) => ({ kind: 'create', name, settings: { keysMax: 100 } }) as const;
const document = [withQuota('one'), withQuota('two')].reduce(
  (known, change) => changed(known, change, 5),
  firstDocument,
);
const [, one, two] = document.namespaces.map(({ id }) => id) as [number, number, number];
const countMs = 1_000;
const protocols = [Catalog, Store, Gossiper, Proposer, Listener];

describe('catalog: counts', () => {
  let kit: ReplicaKit;
  let heard: (readonly Usage[])[];

  beforeEach(async () => {
    heard = [];
    kit = new ReplicaKit({ disk: new MemoryDisk() }, protocols);
    await kit.playStore();
    await kit.spawn(listener, heard);
    const options: CatalogOptions = {
      ring: new Ring({ members: ['n1'], virtualNodes: 4, replicationFactor: 1 }),
      shards: 1,
      gossiper: refTo(Gossiper, 'n1'),
      guards: [],
      listeners: [],
      stores: [refTo(Store, 'n1')],
      usageListeners: [refTo(Listener, 'n1')],
      countMs,
      acceptDataLoss: false,
      refreshMs: 3_600_000,
    };
    await kit.spawn(catalog, options);
    kit.ask(refTo(Catalog, 'n1'), 'install', { document: encodeCatalog(document) });
    await kit.host.advance(countMs);
  });

  const page = (namespace: number, keys: readonly string[], isDone: boolean) => ({
    records: keys.map((key) => makeRecord(key, { namespace })),
    isDone,
  });
  const fromOf = ({ body }: Asked): string => hexOf((body as RangeRequest).from);
  const take = (): Promise<Asked> => kit.take('n1', 'range');

  it('catalog: a page that a store refuses is asked for again, and the count goes on there', async () => {
    const first = page(one, ['a', 'b'], false);
    (await take()).reply(first);
    await kit.host.advance(10);
    const next = hexOf(justAfter(recordKey(first.records[1] ?? new Uint8Array())));
    for (const pauseMs of [500, 1_000, 2_000]) {
      const asked = await take();
      expect(fromOf(asked)).to.equal(next);
      asked.fail('OVERLOADED');
      await kit.host.advance(pauseMs - 1);
      expect(kit.asked, `a pause of ${pauseMs} ms`).to.deep.equal([]);
      await kit.host.advance(1);
    }
    const again = await take();
    expect(fromOf(again)).to.equal(next);
    again.reply(page(one, ['c'], true));
    (await take()).reply(page(two, [], true));
    await kit.host.settle();
    expect(heard.at(-1)?.map(({ id, keys }) => [id, keys])).to.deep.equal([
      [one, 3],
      [two, 0],
    ]);
  });

  it('catalog: a count that fails in the end is logged, and takes no other with it', async () => {
    const fail = async (): Promise<number> => {
      for (let tries = 0; tries < 20; tries += 1) {
        const asked = await take();
        if (!fromOf(asked).startsWith(hexOf(Uint8Array.of(0, 0, 0, one)))) {
          asked.reply(page(two, ['x'], true));
          await kit.host.settle();
          return tries;
        }
        asked.fail('OVERLOADED');
        await kit.host.settle();
        if (kit.asked.length === 0) await kit.host.advance(30_000);
      }
      return Infinity;
    };
    expect(await fail()).to.equal(8);
    expect(heard.at(-1)?.map(({ id, keys }) => [id, keys])).to.deep.equal([[two, 1]]);
    const warnings = (): unknown[] =>
      kit.host.logged
        .filter(({ event }) => event === 'namespaces.not-counted')
        .map(({ fields }) => [fields['name'], fields['code']]);
    expect(warnings()).to.deep.equal([['one', 'OVERLOADED']]);
    await kit.host.advance(countMs);
    (await take()).reply(page(one, ['a', 'b'], true));
    (await take()).reply(page(two, ['x'], true));
    await kit.host.advance(countMs);
    expect(await fail()).to.equal(8);
    expect(heard.at(-1), 'the count before stands').to.deep.include({
      id: one,
      keys: 2,
      bytes: 12,
    });
  });
});
