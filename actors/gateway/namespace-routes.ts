// Namespaces over HTTP: create, list, show, alter, drop, through any node. What is shown is what the
// cluster has decided, not what this node remembers. A drop asks for the name twice (SE-20).

import { errorOf, KvError, toFailure } from '../../runtime/errors.ts';
import type { NamespaceChange } from '../catalog/protocol.ts';
import { type Level, parseLevel } from '../model/consistency.ts';
import { JsonReader } from '../model/json-slices.ts';
import {
  type CatalogDocument,
  type ConflictMode,
  isNamespaceName,
  type Namespace,
  type NamespaceSettings,
  noSuchNamespace,
} from '../model/namespaces.ts';
import { rank } from '../model/users.ts';
import { forbidden } from './access.ts';
import { changeCatalog, lookAtCatalog } from './catalog-routes.ts';
import { jsonAnswer } from './http-answers.ts';
import { problemAnswer } from './http-routes.ts';
import {
  checkJson,
  type NodeExchange,
  type NodeHandlers,
  type NodeTools,
  refuseField,
} from './node-answers.ts';
import type { HttpAnswer, HttpRequest } from './protocol.ts';

/** Handlers by the names of their routes. */
export function namespaceHandlers(tools: NodeTools): NodeHandlers {
  return {
    namespaces: (exchange) =>
      lookAtCatalog(tools, exchange, ({ epoch, namespaces }) => {
        const { login } = exchange;
        const shown = namespaces.filter(({ id }) => login?.rights.in(id) !== rank.none);
        return jsonAnswer({ epoch, namespaces: shown.map(membersOf) });
      }),
    namespace: (exchange) => {
      const name = nameOf(exchange.request);
      lookAtCatalog(tools, exchange, (document) => oneAnswer(document, name));
    },
    'namespace-create': (exchange) => {
      const { name, settings } = parseSettings(exchange.request, true);
      change(tools, exchange, { kind: 'create', name, settings });
    },
    'namespace-alter': (exchange) => {
      const name = nameOf(exchange.request);
      const { settings } = parseSettings(exchange.request, false);
      checkOwnSettings(exchange, settings);
      change(tools, exchange, { kind: 'alter', name, settings });
    },
    'namespace-drop': (exchange) => {
      const name = nameOf(exchange.request);
      const { confirm } = exchange.request.query;
      if (confirm !== name) refuseField('confirm', `${name}, the name of what is to be dropped`);
      change(tools, exchange, { kind: 'drop', name });
    },
  };
}

/** Whose namespace it is and how much it may hold is not for its own administrator to say. */
function checkOwnSettings({ login }: NodeExchange, settings: Settings): void {
  if (login === undefined || login.rights.isAdmin) return;
  const { owner, bytesMax, keysMax, operationsPerSecondMax } = settings;
  const reserved = [owner, bytesMax, keysMax, operationsPerSecondMax];
  if (reserved.every((each) => each === undefined)) return;
  throw errorOf(forbidden(login.user, 'changing owner or quotas'));
}

function change(tools: NodeTools, exchange: NodeExchange, wanted: NamespaceChange): void {
  const { name } = wanted;
  changeCatalog(tools, exchange, wanted, (document) =>
    wanted.kind === 'drop'
      ? jsonAnswer({ name, dropped: true, epoch: document.epoch })
      : oneAnswer(document, name),
  );
}

function oneAnswer({ epoch, namespaces }: CatalogDocument, name: string): HttpAnswer {
  const found = namespaces.find((each) => each.name === name);
  if (found === undefined) return problemAnswer(noSuchNamespace(name).toFailure());
  return jsonAnswer({ epoch, namespace: membersOf(found) });
}

const membersOf = (namespace: Namespace): object => ({
  name: namespace.name,
  id: namespace.id,
  owner: namespace.owner,
  created_ms: namespace.createdMs,
  default_consistency: { read: namespace.readLevel, write: namespace.writeLevel },
  conflicts: namespace.conflicts,
  default_ttl: namespace.ttlSeconds,
  max_ttl: namespace.ttlSecondsMax,
  quotas: {
    bytes: namespace.bytesMax,
    keys: namespace.keysMax,
    operations_per_second: namespace.operationsPerSecondMax,
  },
  compaction: namespace.compaction,
  compression: namespace.compression,
});

// ---- requests ------------------------------------------------------------------------------

function checkName(name: string, field: string): string {
  if (!isNamespaceName(name)) refuseField(field, '1 to 64 of the characters A-Z a-z 0-9 _ -');
  return name;
}

const nameOf = ({ params }: HttpRequest): string => checkName(params['name'] ?? '', 'name');

/** The field of a refusal is the member, where a request's own level is a header. */
function levelOf(text: string, field: string): Level {
  try {
    return parseLevel(text);
  } catch (error) {
    const { detail } = toFailure(error).fields;
    throw new KvError('BAD_REQUEST', { field, detail: `${field}: ${String(detail)}` });
  }
}

type Settings = { -readonly [K in keyof NamespaceSettings]?: NamespaceSettings[K] };
type Reader = (reader: JsonReader, settings: Settings) => void;

const membersExpected =
  'owner, default_consistency, conflicts, default_ttl, max_ttl, quotas, compaction, compression ' +
  'or, to create, name';

/** How each member is read; what the values may be is checked with the whole. */
const members: Readonly<Record<string, Reader>> = {
  owner: (reader, settings) => void (settings.owner = reader.text()),
  conflicts: (reader, settings) => void (settings.conflicts = reader.text() as ConflictMode),
  compaction: (reader, settings) =>
    void (settings.compaction = reader.text() as NamespaceSettings['compaction']),
  compression: (reader, settings) =>
    void (settings.compression = reader.text() as NamespaceSettings['compression']),
  default_ttl: (reader, settings) => void (settings.ttlSeconds = reader.value() as number),
  max_ttl: (reader, settings) => void (settings.ttlSecondsMax = reader.value() as number),
  default_consistency: (reader, settings) =>
    reader.object((name) => {
      const level = reader.text();
      const word = level === '' ? '' : levelOf(level, `default_consistency.${name}`);
      if (name === 'read') settings.readLevel = word;
      else if (name === 'write') settings.writeLevel = word;
      else refuseField(`default_consistency.${name}`, 'read, write');
    }),
  quotas: (reader, settings) =>
    reader.object((name) => {
      const count = reader.value() as number;
      if (name === 'bytes') settings.bytesMax = count;
      else if (name === 'keys') settings.keysMax = count;
      else if (name === 'operations_per_second') settings.operationsPerSecondMax = count;
      else refuseField(`quotas.${name}`, 'bytes, keys, operations_per_second');
    }),
};

/** Of the contract, but all namespaces share it as long as nothing serves it. */
const unserved: readonly string[] = ['replication', 'replication_factor'];

function refuseUnservedSetting(name: string): void {
  if (!unserved.includes(name)) return;
  const detail = `${name} per namespace is not there yet: it is a setting of the nodes`;
  throw new KvError('NOT_IMPLEMENTED', { field: name, detail });
}

function parseSettings(
  request: HttpRequest,
  hasName: boolean,
): { readonly name: string; readonly settings: Settings } {
  checkJson(request);
  const settings: Settings = {};
  let name = '';
  const reader = new JsonReader(request.body);
  reader.object((member) => {
    refuseUnservedSetting(member);
    const read = Object.hasOwn(members, member) ? members[member] : undefined;
    if (member === 'name' && hasName) name = reader.text();
    else if (read === undefined) refuseField(member, `one of the members ${membersExpected}`);
    else read(reader, settings);
  });
  reader.end();
  return { name: hasName ? checkName(name, 'name') : '', settings };
}
