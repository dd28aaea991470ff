// Tokens, users as a part of the decided document, and the rules of their changes: pure functions.

import { expect } from 'chai';
import fc from 'fast-check';
import { changed } from '../../actors/catalog/changes.ts';
import type { CatalogChange, UserChange } from '../../actors/catalog/protocol.ts';
import {
  type CatalogDocument,
  decodeCatalog,
  encodeCatalog,
  firstDocument,
} from '../../actors/model/namespaces.ts';
import { rank, tokensMax, Users } from '../../actors/model/users.ts';
import {
  matchesHash,
  mintToken,
  tokenBytes,
  tokenHash,
  tokenId,
} from '../../runtime/access-token.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';

const nowMs = 1_000_000;
const minted = (n: number) => mintToken(new Uint8Array(tokenBytes).fill(n));
const recordOf = (n: number, expiresMs = 0) => {
  const { id, hash } = minted(n);
  return { id, hash, expiresMs };
};

type Creation = Extract<UserChange, { kind: 'user-create' }>;
const create = (name: string, n: number, more: Partial<Creation> = {}): Creation => ({
  kind: 'user-create',
  name,
  settings: {},
  roles: [],
  token: recordOf(n),
  isFirst: false,
  ...more,
});
const admin = (name: string, n: number): Creation =>
  create(name, n, { settings: { isAdmin: true } });
const namespace = (name: string, owner = ''): CatalogChange => ({
  kind: 'create',
  name,
  settings: { owner },
});
const after = (...changes: readonly CatalogChange[]): CatalogDocument =>
  changes.reduce((document, change) => changed(document, change, nowMs), firstDocument);

function refusal(document: CatalogDocument, change: CatalogChange): string {
  try {
    changed(document, change, nowMs);
  } catch (error) {
    if (error instanceof KvError) return error.code;
    throw error;
  }
  return 'none';
}

const rightsOf = (document: CatalogDocument, name: string) => {
  const users = new Users(document);
  const user = users.named(name);
  return user === undefined ? undefined : users.rightsOf(user);
};

describe('security: tokens', () => {
  it('tokens: a token is known by its id and matches its hash alone', () => {
    const one = minted(1);
    expect(one.text).to.match(/^kvd_[0-9a-f]{16}_[0-9a-f]{64}$/);
    expect(tokenId(one.text)).to.equal(one.id);
    expect(matchesHash(one.text, one.hash)).to.equal(true);
    expect(matchesHash(minted(2).text, one.hash)).to.equal(false);
    expect(one.hash).to.not.contain(one.text.slice(21));
  });

  it('tokens: every text with one character changed is another one', () => {
    const { text, hash } = minted(7);
    for (let at = 0; at < text.length; at += 1) {
      const changedText = text.slice(0, at) + (text[at] === 'a' ? 'b' : 'a') + text.slice(at + 1);
      expect(matchesHash(changedText, hash), `character ${at}`).to.equal(false);
    }
  });

  it('tokens: hostile texts are no tokens, and cost no hash where they are long (SE-12)', () => {
    const { hash } = minted(1);
    const long = 'x'.repeat(10_000_000);
    expect(tokenId(long)).to.equal(undefined);
    expect(matchesHash(long, tokenHash(long))).to.equal(false);
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 600 }), (text) => {
        expect(tokenId(text)).to.equal(undefined);
        expect(matchesHash(text, hash)).to.equal(false);
      }),
    );
    for (const bad of ['', 'ff', `${hash}0`, hash.toUpperCase(), 'g'.repeat(64)])
      expect(matchesHash(minted(1).text, bad)).to.equal(false);
  });
});

describe('security: users', () => {
  it('users: a document with users comes back from its bytes, one without is of format 1', () => {
    const document = after(
      namespace('a'),
      create('ada', 1, { roles: [{ namespace: 'a', role: 'write' }] }),
    );
    expect(decodeCatalog(encodeCatalog(document))).to.deep.equal(document);
    expect(utf8.decode(encodeCatalog(document))).to.match(/^\{"format":2,/);
    expect(utf8.decode(encodeCatalog(after(namespace('a'))))).to.match(/^\{"format":1,/);
    expect(utf8.decode(encodeCatalog(after(namespace('a'))))).to.not.contain('users');
  });

  it('users: bytes with users that are none are refused, each for its reason', () => {
    const good = JSON.parse(utf8.decode(encodeCatalog(after(create('ada', 1))))) as {
      users: Record<string, unknown>[];
    };
    const [ada = {}] = good.users;
    const refused = (users: unknown): string => {
      try {
        decodeCatalog(utf8.encode(JSON.stringify({ ...good, users })));
      } catch (error) {
        return error instanceof KvError ? String(error.fields['detail']) : 'another error';
      }
      return 'none';
    };
    expect(refused([ada])).to.equal('none');
    const bad: readonly (readonly [unknown, RegExp])[] = [
      [{}, /no list/],
      [[null], /no object/],
      [[{ ...ada, name: '../x' }], /no name/],
      [[{ ...ada, name: 'default' }], /no name/],
      [[{ ...ada, isAdmin: 'yes' }], /settings/],
      [[{ ...ada, operationsPerSecondMax: -1 }], /settings/],
      [[{ ...ada, roles: [{ namespace: 9, role: 'read' }] }], /roles/],
      [[{ ...ada, roles: [{ namespace: 0, role: 'root' }] }], /roles/],
      [[{ ...ada, tokens: [{ id: 'x', hash: 'y' }] }], /tokens/],
      [[ada, ada], /a user is in it twice/],
      [[ada, { ...ada, name: 'bob' }], /a token is in it twice/],
    ];
    for (const [users, reason] of bad) expect(refused(users)).to.match(reason);
  });

  it('users: roles are steps, * is all, and the owner has admin of his namespace alone', () => {
    const document = after(
      namespace('a', 'ada'),
      namespace('b'),
      create('ada', 1),
      create('bob', 2, { roles: [{ namespace: 'b', role: 'read' }] }),
      create('cleo', 3, {
        roles: [
          { namespace: '*', role: 'read' },
          { namespace: 'a', role: 'write' },
        ],
      }),
      admin('root', 4),
    );
    const row = (name: string): (number | undefined)[] =>
      [0, 1, 2, 77].map((id) => rightsOf(document, name)?.in(id));
    expect(row('ada')).to.deep.equal([rank.none, rank.admin, rank.none, rank.none]);
    expect(row('bob')).to.deep.equal([rank.none, rank.none, rank.read, rank.none]);
    expect(row('cleo')).to.deep.equal([rank.read, rank.write, rank.read, rank.read]);
    expect(row('root')).to.deep.equal([rank.admin, rank.admin, rank.admin, rank.admin]);
  });

  it('users: a role ends with its namespace; a name that is made again gives nobody a right', () => {
    const before = after(
      namespace('a'),
      create('ada', 1, { roles: [{ namespace: 'a', role: 'admin' }] }),
    );
    const gone = changed(before, { kind: 'drop', name: 'a' }, nowMs);
    const again = changed(gone, namespace('a'), nowMs);
    expect(again.namespaces.at(-1)?.id).to.equal(2);
    expect([1, 2].map((id) => rightsOf(again, 'ada')?.in(id))).to.deep.equal([0, 0]);
  });

  it('users: a name that is given again owns nothing by it', () => {
    const document = after(namespace('a', 'ada'), create('ada', 1));
    const gone = changed(document, { kind: 'user-delete', name: 'ada' }, nowMs);
    expect(rightsOf(changed(gone, create('ada', 2), nowMs), 'ada')?.in(1)).to.equal(rank.none);
  });

  it('users: no change takes the last administrator who can show a token away', () => {
    const one = after(admin('root', 1));
    const losing: readonly UserChange[] = [
      { kind: 'user-delete', name: 'root' },
      { kind: 'user-alter', name: 'root', settings: { isDisabled: true }, roles: [] },
      { kind: 'user-alter', name: 'root', settings: { isAdmin: false }, roles: [] },
      { kind: 'token-revoke', name: 'root', id: minted(1).id },
    ];
    for (const change of losing) expect(refusal(one, change), change.kind).to.equal('CONFLICT');
    const two = changed(one, admin('root2', 2), nowMs);
    for (const change of losing) expect(refusal(two, change), change.kind).to.equal('none');
  });

  it('users: the token of the file makes one administrator, while there is none', () => {
    const first = { ...admin('root', 1), isFirst: true };
    expect(refusal(firstDocument, { ...create('x', 1), isFirst: true })).to.equal('BAD_REQUEST');
    const one = changed(firstDocument, first, nowMs);
    expect(refusal(one, { ...admin('more', 2), isFirst: true })).to.equal('FORBIDDEN');
    // One whose only token has expired can do nothing any more.
    const expired = changed(firstDocument, { ...first, token: recordOf(1, nowMs - 1) }, nowMs);
    expect(refusal(expired, { ...admin('more', 2), isFirst: true })).to.equal('none');
  });

  it('users: names, roles and settings that cannot be are refused', () => {
    const document = after(create('ada', 1));
    const bad: readonly (readonly [UserChange, string])[] = [
      [create('ada', 2), 'CONFLICT'],
      [create('default', 2), 'BAD_REQUEST'],
      [create('a b', 2), 'BAD_REQUEST'],
      [create('x', 2, { roles: [{ namespace: 'none', role: 'read' }] }), 'NO_SUCH_NAMESPACE'],
      [create('x', 2, { roles: [{ namespace: '*', role: 'root' }] }), 'BAD_REQUEST'],
      [create('x', 2, { settings: { isAdmin: 'yes' as never } }), 'BAD_REQUEST'],
      [create('x', 2, { settings: { operationsPerSecondMax: 1.5 } }), 'BAD_REQUEST'],
      [{ kind: 'user-delete', name: 'bob' }, 'NOT_FOUND'],
      [{ kind: 'token-revoke', name: 'ada', id: minted(9).id }, 'NOT_FOUND'],
    ];
    for (const [change, code] of bad) expect(refusal(document, change), change.name).to.equal(code);
  });

  it('users: a user has so many tokens, and expired ones make room (tokensMax=8)', () => {
    let document = after(create('ada', 1));
    for (let n = 2; n <= tokensMax; n += 1)
      document = changed(document, { kind: 'token-add', name: 'ada', token: recordOf(n) }, nowMs);
    const more: CatalogChange = { kind: 'token-add', name: 'ada', token: recordOf(50) };
    expect(refusal(document, more)).to.equal('TOO_LARGE');
    const revoke: CatalogChange = { kind: 'token-revoke', name: 'ada', id: minted(3).id };
    const soon: CatalogChange = {
      kind: 'token-add',
      name: 'ada',
      token: recordOf(51, nowMs + 1000),
    };
    document = changed(changed(document, revoke, nowMs), soon, nowMs);
    expect(refusal(document, more)).to.equal('TOO_LARGE');
    expect(changed(document, more, nowMs + 1000).users[0]?.tokens).to.have.length(tokensMax);
  });

  it('users: the document has a bound; what makes it smaller is always taken', () => {
    let document = firstDocument;
    let code = 'none';
    for (let n = 0; code === 'none' && n < 1_200; n += 1) {
      const token = {
        ...mintToken(new Uint8Array(tokenBytes).map((_, i) => (n >> (8 * (i % 2))) & 255)),
        expiresMs: 0,
      };
      const change = create(`user-${n}`, 0, {
        token: { id: token.id, hash: token.hash, expiresMs: 0 },
      });
      code = refusal(document, change);
      if (code === 'none') document = changed(document, change, nowMs);
    }
    expect(code).to.equal('TOO_LARGE');
    expect(document.users).to.have.length(1000);
    expect(refusal(document, { kind: 'user-delete', name: 'user-5' })).to.equal('none');
  });
});
