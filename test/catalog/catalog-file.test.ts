// The document as bytes, and the changes from one to the next: what is refused, and that ids never
// come twice.

import { expect } from 'chai';
import fc from 'fast-check';
import {
  decodeCatalogFile,
  encodeCatalogFile,
  readCatalogFile,
} from '../../actors/model/catalog-file.ts';
import { changed } from '../../actors/catalog/changes.ts';
import type { NamespaceChange } from '../../actors/catalog/protocol.ts';
import {
  type CatalogDocument,
  decodeCatalog,
  encodeCatalog,
  firstDocument,
  Namespaces,
  namespacesMax,
  tableGroupsMax,
} from '../../actors/model/namespaces.ts';
import { storageKey } from '../../actors/model/record.ts';
import { CorruptionError, KvError } from '../../runtime/errors.ts';
import { utf8 } from '../../runtime/bytes.ts';

const codeOf = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    if (error instanceof KvError) return error.code;
    throw error;
  }
  return 'none';
};
const create = (name: string): NamespaceChange => ({ kind: 'create', name, settings: {} });
const drop = (name: string): NamespaceChange => ({ kind: 'drop', name });
const after = (...changes: readonly NamespaceChange[]): CatalogDocument =>
  changes.reduce((document, change) => changed(document, change, 5), firstDocument);

describe('catalog: the document', () => {
  it('catalog: a document comes back from its bytes and from its file', () => {
    const document = after(create('a'), create('b'), drop('a'));
    expect(decodeCatalog(encodeCatalog(document))).to.deep.equal(document);
    expect(decodeCatalogFile(encodeCatalogFile(document))).to.deep.equal(document);
  });

  it('catalog: a file with any bit flipped is refused', () => {
    const bytes = encodeCatalogFile(after(create('a')));
    for (let at = 0; at < bytes.length; at += 1) {
      const damaged = bytes.slice();
      damaged[at] = (damaged[at] as number) ^ 0x10;
      expect(() => decodeCatalogFile(damaged), `byte ${at}`).to.throw(CorruptionError);
    }
  });

  it('catalog: a damaged file ends a start, or is left out where that is accepted', () => {
    const bytes = encodeCatalogFile(after(create('a'))).fill(0x20, 5, 6);
    const disk = { read: () => bytes };
    expect(() => readCatalogFile(disk, { acceptDataLoss: false })).to.throw(CorruptionError);
    expect(readCatalogFile(disk, { acceptDataLoss: true })).to.deep.equal(firstDocument);
    expect(readCatalogFile({ read: () => undefined }, { acceptDataLoss: false }).epoch).to.equal(0);
  });

  it('catalog: bytes that are no document are refused, each for its reason', () => {
    const good = JSON.parse(utf8.decode(encodeCatalog(after(create('a'))))) as Record<
      string,
      unknown
    > & { namespaces: Record<string, unknown>[] };
    const refused = (changes: Record<string, unknown>): string => {
      try {
        decodeCatalog(utf8.encode(JSON.stringify({ ...good, ...changes })));
      } catch (error) {
        return error instanceof KvError ? String(error.fields['detail']) : 'another error';
      }
      return 'none';
    };
    expect(refused({})).to.equal('none');
    const [usual, a] = good.namespaces;
    const bad: readonly (readonly [Record<string, unknown>, RegExp])[] = [
      [{ format: 3 }, /another format/],
      [{ format: 2 }, /no list of users/],
      [{ epoch: -1 }, /no numbers/],
      [{ nextId: 2 ** 31 }, /no numbers/],
      [{ namespaces: {} }, /no list/],
      [{ namespaces: [] }, /default is missing/],
      [{ namespaces: [usual, null] }, /no object/],
      [{ namespaces: [usual, a, a] }, /twice/],
      [{ namespaces: [usual, { ...a, name: 'default' }] }, /twice/],
      [{ namespaces: [usual, { ...a, name: '../a' }] }, /no name/],
      [{ namespaces: [usual, { ...a, id: 2 }] }, /no id/],
      [{ namespaces: [usual, { ...a, ttlSeconds: 'x' }] }, /default_ttl/],
      [{ namespaces: [usual, { ...a, readLevel: 'MOST' }] }, /default_consistency.read/],
      [{ namespaces: [usual, { ...a, conflicts: 'none' }] }, /conflicts/],
    ];
    for (const [changes, reason] of bad) expect(refused(changes)).to.match(reason);
    expect(codeOf(() => decodeCatalog(utf8.encode('nope')))).to.equal('BAD_REQUEST');
    expect(codeOf(() => decodeCatalog(utf8.encode('null')))).to.equal('BAD_REQUEST');
  });

  it('catalog: an id is never given out twice, and every change is one epoch (random changes)', () => {
    const name = fc.constantFrom('a', 'b', 'c');
    const change = fc.oneof(
      name.map(create),
      name.map(drop),
      name.map((each): NamespaceChange => ({ kind: 'alter', name: each, settings: {} })),
    );
    fc.assert(
      fc.property(fc.array(change, { maxLength: 40 }), (changes) => {
        let document = firstDocument;
        const given = new Set<number>();
        for (const each of changes) {
          let next: CatalogDocument;
          try {
            next = changed(document, each, 1);
          } catch (error) {
            if (!(error instanceof KvError)) throw error;
            continue;
          }
          expect(next.epoch).to.equal(document.epoch + 1);
          const known = new Namespaces(next);
          const made = next.namespaces.filter(({ id }) => id >= document.nextId);
          for (const { id } of made) {
            expect(given.has(id)).to.equal(false);
            given.add(id);
          }
          for (const id of given)
            expect(known.isDropped(id)).to.equal(known.withId(id) === undefined);
          document = decodeCatalog(encodeCatalog(next));
        }
      }),
    );
  });

  it('catalog: a namespace too many is refused, and ids that are not known yet are not dropped', () => {
    let document = firstDocument;
    for (let i = 1; i < namespacesMax; i += 1) document = changed(document, create(`n${i}`), 1);
    expect(codeOf(() => changed(document, create('more'), 1))).to.equal('TOO_LARGE');
    const known = new Namespaces(after(create('a'), drop('a')));
    const key = (id: number): Uint8Array => storageKey(id, utf8.encode('k'));
    expect(
      [0, 1, 2, 0x8000_0001, 0x8000_0002].map((id) => known.isDroppedKey(key(id))),
    ).to.deep.equal([false, true, false, true, false]);
    expect(codeOf(() => known.refuseDropped(key(1)))).to.equal('NO_SUCH_NAMESPACE');
  });

  it('catalog: so many groups may keep their tables in ways of their own, and no more', () => {
    let document = firstDocument;
    const alter = (name: string, compaction: 'size-tiered' | ''): NamespaceChange => ({
      kind: 'alter',
      name,
      settings: { compaction },
    });
    for (let i = 1; i <= 2 * tableGroupsMax + 2; i += 1)
      document = changed(document, create(`n${i}`), 1);
    // Every second one: none has a neighbour that is kept alike.
    for (let i = 1; i <= tableGroupsMax; i += 1)
      document = changed(document, alter(`n${2 * i}`, 'size-tiered'), 1);
    const last = `n${2 * tableGroupsMax + 2}`;
    expect(codeOf(() => changed(document, alter(last, 'size-tiered'), 1))).to.equal('TOO_LARGE');
    // Between two of them it joins them into one group, and then there is space for another.
    document = changed(document, alter('n3', 'size-tiered'), 1);
    document = changed(document, alter(last, 'size-tiered'), 1);
    expect(codeOf(() => changed(document, alter('n3', ''), 1))).to.equal('TOO_LARGE');
    expect(changed(document, drop('n2'), 1).namespaces.length).to.equal(2 * tableGroupsMax + 2);
  });

  it('catalog: a document from before tables could be chosen is read', () => {
    const text = utf8.decode(encodeCatalog(firstDocument));
    const old = text.replace(',"compaction":"","compression":""', '');
    expect(old.length).to.be.lessThan(text.length);
    expect(decodeCatalog(utf8.encode(old))).to.deep.equal(firstDocument);
  });

  it('catalog: the mode of conflicts is chosen at the creation and cannot be altered', () => {
    const siblings = { conflicts: 'siblings' } as const;
    const alter: NamespaceChange = { kind: 'alter', name: 'default', settings: siblings };
    expect(codeOf(() => changed(firstDocument, alter, 1))).to.equal('CONFLICT');
    const make: NamespaceChange = { kind: 'create', name: 'a', settings: siblings };
    const made = changed(firstDocument, make, 1);
    expect(made.namespaces[1]?.conflicts).to.equal('siblings');
    // No change brings a serial level to it; a document from before that has one is read.
    const serial: NamespaceChange = { kind: 'alter', name: 'a', settings: { readLevel: 'SERIAL' } };
    expect(codeOf(() => changed(made, serial, 1))).to.equal('BAD_REQUEST');
    const old = utf8
      .decode(encodeCatalog(made))
      .replaceAll('"readLevel":""', '"readLevel":"SERIAL"');
    expect(decodeCatalog(utf8.encode(old)).namespaces[1]?.readLevel).to.equal('SERIAL');
  });
});
