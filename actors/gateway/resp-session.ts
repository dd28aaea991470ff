// Commands on the connection itself: HELLO, CLIENT, AUTH, SELECT and their like. They act at once, in
// the order in which they came: what they set holds for all commands after them.
//
// References: redis.io commands HELLO, CLIENT, RESET; RESP3 is what current clients open with.

import { latin1 } from '../../runtime/bytes.ts';
import { type Level, parseLevel } from '../model/consistency.ts';
import { type Namespace, systemNamespace } from '../model/namespaces.ts';
import { rank } from '../model/users.ts';
import { defaultLevels, type GatewaySettings } from './http-requests.ts';
import { integerOf, printableOf, type RespCall, wordOf } from './resp-call.ts';
import type { RespConnection } from './resp-connection.ts';
import { failThrown } from './resp-keys.ts';
import {
  errorReply,
  failureReply,
  mapReply,
  ok,
  type Reply,
  status,
  syntaxError,
  tooLargeReply,
  verbatim,
} from './resp-replies.ts';
import type { RespHandler, RespHandlers, RespServices } from './resp-services.ts';
import { type Subcommand, withSubcommands } from './resp-subcommands.ts';
import { Session } from './session.ts';

/** Of the commands and protocol that this face speaks; clients choose by it. */
export const redisVersion = '7.0.0';

const ping: RespHandler = (call) => {
  if (call.args.length > 2)
    return call.answer(errorReply("ERR wrong number of arguments for 'ping' command"));
  call.answer(call.args[1] ?? pong);
};
const pong = status('PONG');

const echo: RespHandler = (call) => call.answer(call.arg(1));

const noPasswords = errorReply(
  'ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?',
);

/** AUTH token, or AUTH user token. */
const auth: RespHandler = (call, services) => {
  const { length } = call.args;
  if (length > 3) return call.answer(syntaxError);
  const user = length === 3 ? call.arg(1) : undefined;
  logIn(call, services, [user, call.arg(length - 1)], () => call.answer(ok));
};

function logIn(
  call: RespCall,
  { access, guard }: RespServices,
  credentials: readonly [Uint8Array | undefined, Uint8Array],
  done: () => void,
): void {
  if (access?.isRequired !== true) return call.answer(noPasswords);
  access.login(call, guard, credentials, (login, refusal) => {
    if (login === undefined) return call.answer(refusal);
    call.connection.login = login;
    done();
  });
}

const helloNeedsAuth = errorReply(
  'NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time',
);

interface Greeting {
  readonly version: 2 | 3;
  readonly name: string;
  readonly credentials: readonly [user: Uint8Array, token: Uint8Array] | undefined;
}

/** HELLO [version [AUTH user token] [SETNAME name]], or the error that it is. */
function parseHello({ connection, args }: RespCall): Greeting | Reply {
  const version = args[1] === undefined ? connection.version : integerOf(args[1]);
  if (version === undefined)
    return errorReply('ERR Protocol version is not an integer or out of range');
  if (version !== 2 && version !== 3) return errorReply('NOPROTO unsupported protocol version');
  let name = connection.name;
  let credentials: Greeting['credentials'];
  for (let at = 2; at < args.length; at += 2) {
    const option = args[at] as Uint8Array;
    const word = wordOf(option);
    const [first, second] = args.slice(at + 1, at + 3);
    if (word === 'auth' && first !== undefined && second !== undefined) {
      credentials = [first, second];
      at += 1;
    } else if (word === 'setname' && first !== undefined) name = latin1(first);
    else return errorReply(`ERR Syntax error in HELLO option '${printableOf(option)}'`);
  }
  return isName(name) ? { version, name, credentials } : badName;
}

const isGreeting = (parsed: Greeting | Reply): parsed is Greeting =>
  typeof parsed === 'object' && parsed !== null && 'credentials' in parsed;

const hello: RespHandler = (call, services) => {
  const { connection } = call;
  const parsed = parseHello(call);
  if (!isGreeting(parsed)) return call.answer(parsed);
  const { version, name, credentials } = parsed;
  const greet = (): void => {
    connection.name = name;
    connection.version = version;
    call.version = version;
    const { id } = connection;
    call.answer(
      mapReply([
        ...['server', 'redis', 'version', redisVersion, 'proto', version],
        ...['id', id, 'mode', 'standalone', 'role', 'master', 'modules', []],
      ]),
    );
  };
  if (credentials !== undefined) return logIn(call, services, credentials, greet);
  const { access } = services;
  if (access === undefined || access.isLoggedIn(connection)) return greet();
  access.happened(call, 'UNAUTHORIZED');
  call.answer(helloNeedsAuth);
};

/** The namespace with this number; one that is not known here may have been made elsewhere. */
const select: RespHandler = (call, { settings, guard, access }) => {
  const index = integerOf(call.arg(1));
  if (index === undefined) return call.answer(errorReply('ERR invalid DB index'));
  // Whether there is such a namespace is not said to who has no role in it (rule SE-14).
  const { login } = call.connection;
  if (access !== undefined && login !== undefined && login.rights.in(index) === rank.none)
    return call.answer(access.refused(call, login));
  const enter = (found: Namespace): void => {
    if (found.conflicts === 'siblings')
      return call.answer(errorReply('ERR this namespace keeps siblings: use it over HTTP'));
    const { readLevel, writeLevel } = defaultLevels(found, settings.defaults, 'read');
    const session = undefined;
    Object.assign(call.connection, { namespace: found.id, readLevel, writeLevel, session });
    call.answer(ok);
  };
  const known = guard.known.withId(index);
  if (known !== undefined) return enter(known);
  const outOfRange = errorReply('ERR DB index is out of range');
  if (index < guard.known.document.nextId || index >= systemNamespace)
    return call.answer(outOfRange);
  guard.refresh((problem, decided) => {
    const found = decided?.withId(index);
    if (found !== undefined) enter(found);
    else call.answer(problem === undefined ? outOfRange : failureReply(problem));
  });
};

const quit: RespHandler = (call) => {
  call.batch.isLast = true;
  call.batch.isCut = true;
  call.answer(ok);
};

const reset: RespHandler = (call) => {
  call.connection.reset();
  call.version = 2;
  call.isMuted = false;
  call.answer(status('RESET'));
};

// ---- CLIENT --------------------------------------------------------------------------------

const nameBytesMax = 1024;
const badName = errorReply(
  'ERR Client names cannot contain spaces, newlines or special characters.',
);

/** Printable and without spaces, so that lists of clients can be read. */
const isName = (name: string): boolean =>
  name.length <= nameBytesMax && /^[\x21-\x7e]*$/.test(name);

const setName = (set: (name: string) => void, value: Uint8Array): Reply => {
  const name = latin1(value);
  if (!isName(name)) return badName;
  set(name);
  return ok;
};

function setInfo(call: RespCall): Reply {
  const { connection } = call;
  const option = wordOf(call.arg(2));
  const value = call.arg(3);
  if (option === 'lib-name') return setName((name) => (connection.libraryName = name), value);
  if (option === 'lib-ver') return setName((name) => (connection.libraryVersion = name), value);
  return errorReply(`ERR Unrecognized option '${printableOf(call.arg(2))}'`);
}

function setReplyMode(call: RespCall): Reply {
  const { connection } = call;
  const word = wordOf(call.arg(2));
  if (word !== 'on' && word !== 'off' && word !== 'skip') return syntaxError;
  connection.replyMode = word;
  // ON itself is answered, OFF and SKIP are not.
  call.isMuted = word !== 'on';
  return ok;
}

/** Types of Redis; all connections here are of the first. */
const clientTypes: readonly string[] = ['normal', 'master', 'replica', 'slave', 'pubsub'];

/** Of one CLIENT LIST ID. */
const listedIdsMax = 1000;

type IsWanted = (connection: RespConnection) => boolean;

/** CLIENT LIST [TYPE type] [ID id ...], which of them; a reply is the error that the options are. */
function parseClientList({ args }: RespCall): IsWanted | Reply {
  if (args.length - 3 > listedIdsMax) return tooLargeReply(`CLIENT LIST takes ${listedIdsMax} ids`);
  const [option, ...words] = args.slice(2).map(wordOf);
  if (option === undefined) return () => true;
  const [first] = words;
  if (option === 'type' && first !== undefined && words.length === 1) {
    if (!clientTypes.includes(first))
      return errorReply(`ERR Unknown client type '${printableOf(args[3] as Uint8Array)}'`);
    return () => first === 'normal';
  }
  if (option !== 'id' || first === undefined) return syntaxError;
  if (!words.every((word) => /^[1-9]\d*$/.test(word))) return errorReply('ERR Invalid client ID');
  const ids = new Set(words);
  return ({ id }) => ids.has(String(id));
}

/** Users see their own connections, administrators all. */
function listClients(call: RespCall, { connections, ctx }: RespServices): Reply {
  const nowMs = ctx.clock.monotonicMs();
  const { login } = call.connection;
  const isSeen: IsWanted = (connection) =>
    login === undefined || login.rights.isAdmin || connection.login?.user === login.user;
  const isWanted = parseClientList(call);
  if (typeof isWanted !== 'function') return isWanted;
  const found = [...connections.values()].filter((one) => isSeen(one) && isWanted(one));
  return verbatim(found.map((one) => `${one.describe(nowMs)}\n`).join(''));
}

/** A switch, which changes nothing here: nothing of a client is evicted. */
const acceptSwitch: Subcommand = (call) =>
  ['on', 'off'].includes(wordOf(call.arg(2))) ? ok : syntaxError;

const client = withSubcommands('client', {
  id: [2, 2, ({ connection }) => connection.id],
  info: [
    2,
    2,
    ({ connection }, { ctx }) => verbatim(`${connection.describe(ctx.clock.monotonicMs())}\n`),
  ],
  list: [2, Infinity, listClients],
  getname: [2, 2, ({ connection }) => (connection.name === '' ? null : connection.name)],
  setname: [3, 3, (call) => setName((name) => (call.connection.name = name), call.arg(2))],
  setinfo: [4, 4, setInfo],
  reply: [3, 3, setReplyMode],
  'no-evict': [3, 3, acceptSwitch],
  'no-touch': [3, 3, acceptSwitch],
  help: [
    2,
    2,
    () => [
      'CLIENT ID: the number of this connection',
      'CLIENT INFO: this connection in the words of CLIENT LIST',
      'CLIENT LIST [TYPE type | ID id ...]: connections of this node; without rights of an administrator your own',
      'CLIENT GETNAME, CLIENT SETNAME name: the name of this connection',
      'CLIENT SETINFO LIB-NAME | LIB-VER text: what the client says of itself',
      'CLIENT REPLY ON | OFF | SKIP: whether answers are sent',
      'CLIENT NO-EVICT ON | OFF, CLIENT NO-TOUCH ON | OFF: taken, and without effect',
    ],
  ],
});

/** That of the namespace: a session reads what it wrote at any level. */
const usualWriteLevel = (namespace: Namespace | undefined, { defaults }: GatewaySettings): Level =>
  namespace === undefined
    ? defaults.writeLevel
    : defaultLevels(namespace, defaults, 'read').writeLevel;

// ---- kvd's own -----------------------------------------------------------------------------

/** KV.CONSISTENCY [level]: without an argument, the levels of reads and of writes. */
const consistency: RespHandler = (call, { guard, settings, ring }) => {
  const { connection, args } = call;
  if (args.length > 2)
    return call.answer(errorReply("ERR wrong number of arguments for 'kv.consistency' command"));
  if (args[1] === undefined) {
    const read = connection.session === undefined ? connection.readLevel : 'SESSION';
    return call.answer(mapReply(['read', read, 'write', connection.writeLevel]));
  }
  try {
    const level = parseLevel(latin1(args[1]));
    if (level === 'SESSION') {
      // Reads begin at one replica and go on until they show all that the connection knows (SS-3).
      const { namespace } = connection;
      connection.session ??= new Session(namespace, ring.replicationFactor);
      connection.readLevel = 'ONE';
      connection.writeLevel = usualWriteLevel(guard.known.withId(namespace), settings);
      return call.answer(ok);
    }
    connection.session = undefined;
    connection.readLevel = level;
    connection.writeLevel = level;
    call.answer(ok);
  } catch (error) {
    failThrown(call, error);
  }
};

export const sessionHandlers: RespHandlers = {
  select,
  ping,
  echo,
  auth,
  hello,
  quit,
  reset,
  client,
  'kv.consistency': consistency,
};
