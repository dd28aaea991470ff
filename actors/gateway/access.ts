// Who asks, and what he may do: the one place where both faces decide it (rule SE-13). A token is
// checked once, when a connection logs in or a request shows a token that is not remembered; from then
// on a login is compared with the document of users by its epoch, and costs no hash and no message.
//
// Whoever fails is slowed down by address: after a few wrong tokens new ones are not looked at for a
// while. Tokens that were right before go on, so that nobody can lock out others behind the same
// address.

import { type BaseContext, refTo } from '../../runtime/actor.ts';
import type { Clock } from '../../runtime/environment.ts';
import { type Failure, failure } from '../../runtime/errors.ts';
import { matchesHash, tokenId } from '../../runtime/access-token.ts';
import { dropOldest } from '../model/drop-oldest.ts';
import type { Namespaces } from '../model/namespaces.ts';
import { isExpired, noRights, rank, type Rank, type Rights, Users } from '../model/users.ts';
import { TokenBuckets } from '../model/token-buckets.ts';
import { type AuditEntry, Auditor } from '../security/protocol.ts';
import { addressGroup } from '../../runtime/address-group.ts';
import type { NamespaceGuard } from './namespace-guard.ts';

export interface AccessSettings {
  /** False: everybody may do everything. */
  readonly isRequired: boolean;
  /** Hash of a token that may make the first administrator; absent: there is none. */
  readonly bootstrapHash?: string | undefined;
  /** Of one address on one node, over each face; 0: no limit. */
  readonly operationsPerAddressMax: number;
}

/** Writes a line of the audit log of this node. */
export type Audit = (entry: AuditEntry) => void;

export function auditOf({ tell, node }: Pick<BaseContext<never>, 'tell' | 'node'>): Audit {
  const auditor = refTo(Auditor, node);
  return (entry) => tell(auditor, 'happened', entry);
}

/** Somebody who has shown a token. */
export interface Login {
  readonly user: string;
  /** Of the token; empty: it is that of the file. */
  readonly tokenId: string;
  /** Epoch of the users that `rights` are of. */
  epoch: number;
  rights: Rights;
  expiresMs: number;
  perSecondMax: number;
}

export const bootstrapUser = 'bootstrap';

/** Tokens that were right lately; a change of the users or namespaces does not make one forgotten. */
const rememberedMax = 1024;
const addressesMax = 10_000;
/** Wrong tokens of one address. */
const mistakes = { perSecond: 0.5, nodes: 1, burst: 10 } as const;

export class Access {
  readonly #clock: Clock;
  readonly #guard: NamespaceGuard;
  readonly #settings: AccessSettings;
  readonly #mistakes = new TokenBuckets<string>(addressesMax);
  readonly #perAddress = new TokenBuckets<string>(addressesMax);
  readonly #perUser = new TokenBuckets<string>(addressesMax);
  readonly #remembered = new Map<string, Login>();
  #users: Users;
  /** Nodes that give out what a user may do per second. */
  #nodesAlive = 1;

  constructor(clock: Clock, guard: NamespaceGuard, settings: AccessSettings) {
    this.#clock = clock;
    this.#guard = guard;
    this.#settings = settings;
    this.#users = new Users(guard.known.document);
  }

  /** False: there is nothing to ask before a request or a command. */
  get isGuarding(): boolean {
    return this.#settings.isRequired || this.#settings.operationsPerAddressMax > 0;
  }

  peersChanged(peers: readonly { readonly condition: string }[]): void {
    const alive = peers.filter(({ condition }) => condition === 'alive').length;
    this.#nodesAlive = Math.max(1, alive);
  }

  get isRequired(): boolean {
    return this.#settings.isRequired;
  }

  /** Nothing was ever heard of users here: the cluster may have some all the same. */
  get knowsNobody(): boolean {
    return this.#guard.known.epoch === 0;
  }

  get #nowMs(): number {
    return this.#clock.wallMicros() / 1000;
  }

  #current(): Users {
    const { epoch, document } = this.#guard.known;
    if (this.#users.epoch !== epoch) this.#users = new Users(document);
    return this.#users;
  }

  /**
   * Who shows this token; `name`: who he says that he is. UNAUTHORIZED for whatever reason, with the
   * same words; OVERLOADED after too many mistakes of this address.
   */
  login(token: string, address: string, name?: string): Login | Failure {
    const users = this.#current();
    const known = this.#remembered.get(token);
    const isCurrent = known !== undefined && this.isCurrent(known);
    if (isCurrent && (name ?? known.user) === known.user) return known;
    if (!isCurrent) this.#remembered.delete(token);
    const group = addressGroup(address);
    const nowMs = this.#clock.monotonicMs();
    const waitMs = this.#mistakes.waitMs(group, mistakes, nowMs);
    if (waitMs > 0) return tooManyMistakes(waitMs);
    const login = this.#verified(users, token);
    if (login === undefined || (name !== undefined && name !== login.user)) {
      this.#mistakes.take(group, mistakes, 1, nowMs);
      return wrongCredentials;
    }
    this.#remember(token, login);
    return login;
  }

  #verified(users: Users, token: string): Login | undefined {
    const id = tokenId(token);
    const holder = id === undefined ? undefined : users.holderOf(id);
    if (holder === undefined) return this.#bootstrap(users, token);
    const { user, token: stored } = holder;
    if (!matchesHash(token, stored.hash)) return undefined;
    if (user.isDisabled || isExpired(stored, this.#nowMs)) return undefined;
    return {
      user: user.name,
      tokenId: stored.id,
      epoch: users.epoch,
      rights: users.rightsOf(user),
      expiresMs: stored.expiresMs,
      perSecondMax: user.operationsPerSecondMax,
    };
  }

  /** The token of the file: while there is no administrator. */
  #bootstrap(users: Users, token: string): Login | undefined {
    const { bootstrapHash } = this.#settings;
    if (bootstrapHash === undefined || !matchesHash(token, bootstrapHash)) return undefined;
    if (users.hasUsableAdmin(this.#nowMs)) return undefined;
    const nobody = { rights: noRights, expiresMs: 0, perSecondMax: 0 };
    return { user: bootstrapUser, tokenId: '', epoch: users.epoch, ...nobody };
  }

  #remember(token: string, login: Login): void {
    this.#remembered.delete(token);
    this.#remembered.set(token, login);
    dropOldest(this.#remembered, rememberedMax);
  }

  /** False: log in again. After a change of the users it has their rights. */
  isCurrent(login: Login): boolean {
    if (login.expiresMs !== 0 && login.expiresMs <= this.#nowMs) return false;
    return login.epoch === this.#guard.known.epoch || this.#renew(login);
  }

  #renew(login: Login): boolean {
    const users = this.#current();
    if (login.tokenId === '') {
      if (users.hasUsableAdmin(this.#nowMs)) return false;
      login.epoch = users.epoch;
      return true;
    }
    const renewed = loginBy(users, login);
    if (renewed === undefined) return false;
    Object.assign(login, renewed);
    return true;
  }

  /** One operation of an address, before anything else of it is looked at; a failure: too many. */
  admitAddress(address: string): Failure | undefined {
    const { operationsPerAddressMax: perSecond } = this.#settings;
    if (perSecond === 0) return undefined;
    const nowMs = this.#clock.monotonicMs();
    const share = { perSecond, nodes: 1 };
    const { granted, retryMs } = this.#perAddress.take(addressGroup(address), share, 1, nowMs);
    if (granted > 0) return undefined;
    return tooFast(`an address may do ${perSecond} operations`, retryMs);
  }

  /** One operation of a user; a failure where there are too many. */
  admitUser({ user, perSecondMax }: Login): Failure | undefined {
    if (perSecondMax === 0) return undefined;
    const nowMs = this.#clock.monotonicMs();
    const share = { perSecond: perSecondMax, nodes: this.#nodesAlive };
    const { granted, retryMs } = this.#perUser.take(user, share, 1, nowMs);
    if (granted > 0) return undefined;
    return tooFast(`user ${user} may do ${perSecondMax} operations`, retryMs);
  }
}

/** A login as it is by these users; undefined: its token or its user counts no more. */
function loginBy(
  users: Users,
  { user, tokenId }: Pick<Login, 'user' | 'tokenId'>,
): Omit<Login, 'user' | 'tokenId'> | undefined {
  const holder = users.holderOf(tokenId);
  // A token never goes from one user to another, and its hash never changes.
  if (holder === undefined || holder.user.isDisabled || holder.user.name !== user) return undefined;
  return {
    epoch: users.epoch,
    rights: users.rightsOf(holder.user),
    expiresMs: holder.token.expiresMs,
    perSecondMax: holder.user.operationsPerSecondMax,
  };
}

/** In the namespace of this name; one that is not known here is asked for where he could see it. */
export function roleIn({ rights }: Login, name: string, known: Namespaces): Rank {
  const namespace = known.named(name);
  if (namespace !== undefined) return rights.in(namespace.id);
  return rights.isEverywhere ? rank.admin : rank.none;
}

/** Why somebody who was let in to read a namespace on and on has to stop, by the users of now. */
export function refusalToReadOn(
  users: Users,
  reader: Pick<Login, 'user' | 'tokenId'>,
  namespace: number,
): Failure | undefined {
  const login = loginBy(users, reader);
  if (login === undefined) return wrongCredentials;
  return login.rights.in(namespace) < rank.read ? forbidden(reader.user, 'watch') : undefined;
}

const seconds = (ms: number): number => Math.max(1, Math.ceil(ms / 1000));

const tooFast = (what: string, retryMs: number): Failure =>
  failure('OVERLOADED', { retry_after: seconds(retryMs), detail: `${what} per second` });

const tooManyMistakes = (waitMs: number): Failure =>
  failure('OVERLOADED', {
    retry_after: seconds(waitMs),
    detail: 'too many wrong tokens came from this address',
  });

/** The same for an unknown user, a wrong token, an expired or revoked one, a disabled user. */
export const wrongCredentials: Failure = failure('UNAUTHORIZED', {
  detail: 'the token is wrong, expired or revoked, or its user is disabled',
});

export const isFailure = (found: Login | Failure): found is Failure => 'code' in found;

export const forbidden = (user: string, what: string): Failure =>
  failure('FORBIDDEN', { user, detail: `user ${user} has no role that allows ${what} here` });
