// Changes of the catalog as functions from one document to the next. Pure: who decides that the next
// one counts is elsewhere.

import { KvError } from '../../runtime/errors.ts';
import {
  type CatalogDocument,
  defaultNamespace,
  documentBytesMax,
  encodeCatalog,
  isNamespaceName,
  type Namespace,
  namespacesMax,
  noSuchNamespace,
  plainSettings,
  settingsProblem,
  togetherProblem,
  systemNamespace,
  tableGroups,
  tableGroupsMax,
} from '../model/namespaces.ts';
import type { CatalogChange, NamespaceChange } from './protocol.ts';
import { usersChanged } from './user-changes.ts';

/** The document after a change, with the next epoch. A KvError says why it cannot be made. */
export function changed(
  document: CatalogDocument,
  change: CatalogChange,
  nowMs: number,
): CatalogDocument {
  const next = { ...document, epoch: document.epoch + 1 };
  const made = isOfNamespaces(change)
    ? namespacesChanged(next, change, nowMs)
    : usersChanged(next, change, nowMs);
  const { length: bytes } = encodeCatalog(made);
  if (bytes > documentBytesMax)
    throw new KvError('TOO_LARGE', {
      limit: documentBytesMax,
      detail: `namespaces and users together: more than ${documentBytesMax} bytes`,
    });
  return made;
}

const isOfNamespaces = (change: CatalogChange): change is NamespaceChange =>
  change.kind === 'create' || change.kind === 'alter' || change.kind === 'drop';

function namespacesChanged(
  next: CatalogDocument,
  change: NamespaceChange,
  nowMs: number,
): CatalogDocument {
  const { namespaces } = next;
  const index = namespaces.findIndex(({ name }) => name === change.name);
  if (change.kind === 'create') return created(next, change, index >= 0, nowMs);
  const old = namespaces[index];
  if (old === undefined) throw noSuchNamespace(change.name);
  if (change.kind === 'drop') {
    if (change.name === defaultNamespace)
      throw new KvError('CONFLICT', { detail: 'namespace default cannot be dropped' });
    return {
      ...next,
      namespaces: namespaces.filter((each) => each !== old),
      users: next.users.map((user) => ({
        ...user,
        roles: user.roles.filter(({ namespace }) => namespace !== old.id),
      })),
    };
  }
  const altered = checked({ ...old, ...change.settings });
  if (altered.conflicts !== old.conflicts)
    throw new KvError('CONFLICT', {
      field: 'conflicts',
      detail: 'conflicts: what a namespace holds is written for one mode; create another one',
    });
  const others = namespaces.map((each) => (each === old ? altered : each));
  checkTableGroups(namespaces, others);
  return { ...next, namespaces: others };
}

/** TOO_LARGE where a shard would have to keep too many sets of tables apart. */
function checkTableGroups(before: readonly Namespace[], after: readonly Namespace[]): void {
  const groups = tableGroups(after);
  if (groups <= tableGroupsMax || groups <= tableGroups(before)) return;
  const detail =
    `more than ${tableGroupsMax} groups of namespaces with a compaction or compression of ` +
    'their own; neighbours that have the same are one group';
  throw new KvError('TOO_LARGE', { limit: tableGroupsMax, detail });
}

function created(
  next: CatalogDocument,
  { name, settings }: Extract<NamespaceChange, { kind: 'create' }>,
  isThere: boolean,
  nowMs: number,
): CatalogDocument {
  if (!isNamespaceName(name)) refuse('name', '1 to 64 of the characters A-Z a-z 0-9 _ -');
  if (isThere)
    throw new KvError('CONFLICT', { namespace: name, detail: `namespace ${name} exists` });
  const { namespaces, nextId } = next;
  if (namespaces.length >= namespacesMax || nextId >= systemNamespace)
    throw new KvError('TOO_LARGE', {
      limit: namespacesMax,
      detail: `more than ${namespacesMax} namespaces`,
    });
  const namespace = checked({ ...plainSettings, ...settings, name, id: nextId, createdMs: nowMs });
  const others = [...namespaces, namespace];
  checkTableGroups(namespaces, others);
  return { ...next, nextId: nextId + 1, namespaces: others };
}

function checked(namespace: Namespace): Namespace {
  const fields = namespace as unknown as Readonly<Record<string, unknown>>;
  const problem = settingsProblem(fields) ?? togetherProblem(namespace);
  if (problem !== undefined) refuse(problem.field, problem.expected);
  return namespace;
}

function refuse(field: string, expected: string): never {
  throw new KvError('BAD_REQUEST', { field, detail: `${field}: expected ${expected}` });
}
