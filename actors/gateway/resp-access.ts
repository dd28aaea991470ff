// Rights on the Redis face: what each command asks of a user, and the one check before a command
// runs. A connection logs in once, by AUTH or HELLO; each command then costs a comparison of epochs
// and a look at the role in the selected namespace: no hash, no message, no promise.
//
// References: redis.io commands AUTH, HELLO, ACL; the words are those that its clients know.

import { latin1 } from '../../runtime/bytes.ts';
import type { Failure } from '../../runtime/errors.ts';
import { rank } from '../model/users.ts';
import { type Access, type Audit, isFailure, type Login } from './access.ts';
import { addressOf } from '../../runtime/address-group.ts';
import type { NamespaceGuard } from './namespace-guard.ts';
import type { RespCall } from './resp-call.ts';
import type { CommandSpec } from './resp-commands.ts';
import type { RespConnection } from './resp-connection.ts';
import { errorReply, failureReply, type Reply } from './resp-replies.ts';

export type CommandRight =
  /** Before anybody has said who he is. */
  | 'open'
  /** Of every user. */
  | 'login'
  /** In the namespace that is selected. */
  | 'read'
  | 'write'
  | 'namespace-admin'
  | 'admin';

const open: ReadonlySet<string> = new Set(['auth', 'hello', 'quit', 'reset']);
/** Without keys: what they say or set is about the connection, this node or the protocol. */
const ofEverybody: ReadonlySet<string> = new Set([
  ...['ping', 'echo', 'select', 'client', 'command', 'time', 'wait', 'cluster', 'info', 'dbsize'],
  ...['multi', 'exec', 'discard', 'unwatch', 'kv.consistency'],
]);
const ofReaders: ReadonlySet<string> = new Set(['scan', 'keys', 'randomkey', 'memory', 'watch']);

/** A command without keys that is in no list is for administrators of the cluster. */
export function commandRight({ name, flags, firstKey }: CommandSpec): CommandRight {
  if (open.has(name)) return 'open';
  if (ofEverybody.has(name)) return 'login';
  if (ofReaders.has(name)) return 'read';
  if (name === 'flushdb') return 'namespace-admin';
  if (firstKey === 0) return 'admin';
  return flags.includes('write') ? 'write' : 'read';
}

const needs = {
  open: rank.none,
  login: rank.none,
  read: rank.read,
  write: rank.write,
  'namespace-admin': rank.admin,
} as const;

const noAuth = errorReply('NOAUTH Authentication required.');
/** The same for an unknown user and a wrong token. */
export const wrongPass = errorReply(
  'WRONGPASS invalid username-password pair or user is disabled.',
);

type CommandAsked = Pick<RespCall, 'connection' | 'spec' | 'namespace'>;

export class RespAccess {
  readonly access: Access;
  readonly #audit: Audit;
  readonly #rights = new Map<CommandSpec, CommandRight>();

  constructor(access: Access, audit: Audit) {
    this.access = access;
    this.#audit = audit;
  }

  get isRequired(): boolean {
    return this.access.isRequired;
  }

  /** Whether it is known who it speaks for; a token that was revoked meanwhile is forgotten here. */
  isLoggedIn(connection: RespConnection): boolean {
    if (!this.access.isRequired) return true;
    const { login } = connection;
    if (login === undefined) return false;
    if (this.access.isCurrent(login)) return true;
    connection.login = undefined;
    return false;
  }

  /** The first that is done of a command: its address may be too fast. Whoever leaves may leave. */
  tooFast({ connection, spec }: RespCall): Reply | undefined {
    if (spec.name === 'quit') return undefined;
    const problem = this.access.admitAddress(addressOf(connection.remote));
    return problem === undefined ? undefined : failureReply(problem);
  }

  /** Why a command may not run; undefined: it may. */
  refusalOf(call: RespCall): Reply | undefined {
    const { connection, spec } = call;
    const right = this.#rightOf(spec);
    if (right === 'open') return undefined;
    if (!this.isLoggedIn(connection)) {
      this.happened(call, 'UNAUTHORIZED');
      return noAuth;
    }
    const { login } = connection;
    if (login === undefined) return undefined;
    const tooFast = this.access.admitUser(login);
    if (tooFast !== undefined) return failureReply(tooFast);
    if (mayRun(login, right, call.namespace)) return undefined;
    return this.refused(call, login);
  }

  /** The same of a command that was queued and runs now: rights may have changed meanwhile. */
  refusalOfQueued({ connection, namespace }: RespCall, spec: CommandSpec): Reply | undefined {
    const { login } = connection;
    if (login === undefined || mayRun(login, this.#rightOf(spec), namespace)) return undefined;
    return this.refused({ connection, namespace, spec }, login);
  }

  #rightOf(spec: CommandSpec): CommandRight {
    let right = this.#rights.get(spec);
    if (right === undefined) {
      right = commandRight(spec);
      this.#rights.set(spec, right);
    }
    return right;
  }

  /** Writes down that a command was refused, and says so. */
  refused(call: CommandAsked, { user }: Login): Reply {
    this.happened(call, 'FORBIDDEN');
    return errorReply(
      `NOPERM User ${user} has no permissions to run the '${call.spec.name}' command`,
    );
  }

  /** A line of the audit log about a command. */
  happened({ connection, spec, namespace }: CommandAsked, outcome: string): void {
    const address = addressOf(connection.remote);
    const user = connection.login?.user ?? '';
    const target = namespace === 0 ? '' : String(namespace);
    this.#audit({ user, address, act: spec.name, target, outcome });
  }

  /**
   * Who shows this token. `done` hears the login, or the error of Redis; it may come later, where
   * this node has never heard of users and asks.
   */
  login(
    call: RespCall,
    guard: NamespaceGuard,
    [user, token]: readonly [Uint8Array | undefined, Uint8Array],
    done: (login: Login | undefined, refusal: Reply) => void,
  ): void {
    const name = user === undefined ? undefined : latin1(user);
    const address = addressOf(call.connection.remote);
    // Clients that know of no users send the one of Redis.
    const named = name === 'default' ? undefined : name;
    const attempt = (): Login | Failure => this.access.login(latin1(token), address, named);
    const decide = (found: Login | Failure): void => {
      if (!isFailure(found) && found.tokenId !== '') return done(found, wrongPass);
      if (!isFailure(found) || found.code === 'UNAUTHORIZED') {
        this.happened(call, 'UNAUTHORIZED');
        return done(undefined, wrongPass);
      }
      done(undefined, failureReply(found));
    };
    const first = attempt();
    if (!isFailure(first) || !this.access.knowsNobody) return decide(first);
    guard.refresh((problem) => {
      if (problem !== undefined) done(undefined, failureReply(problem));
      else decide(attempt());
    });
  }
}

const mayRun = ({ rights }: Login, right: CommandRight, namespace: number): boolean =>
  right === 'admin' ? rights.isAdmin : rights.in(namespace) >= needs[right];
