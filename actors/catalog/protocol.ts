// Messages of the catalog: the document of namespaces and users, on every node the same. It travels
// as the bytes that are stored (actors/model/namespaces.ts), so that one check guards every door.

import { ask, protocol, tell } from '../../runtime/protocol.ts';
import { type PeerStates, peerStatesLayout } from '../membership/protocol.ts';
import type { NamespaceSettings, Usage } from '../model/namespaces.ts';
import type { Grant } from '../model/token-buckets.ts';
import type { UserSettings, UserToken } from '../model/users.ts';

export type NamespaceChange =
  | {
      readonly kind: 'create';
      readonly name: string;
      readonly settings: Partial<NamespaceSettings>;
    }
  | { readonly kind: 'alter'; readonly name: string; readonly settings: Partial<NamespaceSettings> }
  | { readonly kind: 'drop'; readonly name: string };

export interface RoleChange {
  /** Name of a namespace, or `*` for all. */
  readonly namespace: string;
  /** A role, or `none`. */
  readonly role: string;
}

export type UserChange =
  | {
      readonly kind: 'user-create';
      readonly name: string;
      readonly settings: Partial<UserSettings>;
      readonly roles: readonly RoleChange[];
      readonly token: Omit<UserToken, 'createdMs'>;
      /** Only while there is no administrator. */
      readonly isFirst: boolean;
    }
  | {
      readonly kind: 'user-alter';
      readonly name: string;
      readonly settings: Partial<UserSettings>;
      /** What is not named stays. */
      readonly roles: readonly RoleChange[];
    }
  | { readonly kind: 'user-delete'; readonly name: string }
  | {
      readonly kind: 'token-add';
      readonly name: string;
      readonly token: Omit<UserToken, 'createdMs'>;
    }
  | { readonly kind: 'token-revoke'; readonly name: string; readonly id: string };

export type CatalogChange = NamespaceChange | UserChange;

export interface CatalogBytes {
  readonly document: Uint8Array;
}

export const Catalog = protocol('catalog', 34, {
  /** What this node knows. */
  document: ask<object, CatalogBytes>(1, { lane: 'control' }),
  /** What the cluster has decided, as far as it can be read now; UNAVAILABLE where it cannot. */
  refresh: ask<object, CatalogBytes>(2),
  /**
   * Changes a namespace or a user. Answered when the change is decided and so many nodes act by it that no
   * quorum of older ones is left; UNKNOWN_OUTCOME where too few are known to.
   */
  change: ask<CatalogChange, CatalogBytes>(3),
  /** A document that was decided; answered when this node has stored it and acts by it. */
  install: ask<CatalogBytes, { readonly epoch: number }>(4, { lane: 'control' }),
  /** Some node has a document of this epoch. */
  heard: tell<{ readonly epoch: number; readonly node: string }>(5, { lane: 'control' }),
  peersChanged: tell<PeerStates>(6, { lane: 'control', layout: peerStatesLayout }),
  /** Operations of a namespace with a quota, for a gateway of this node. */
  lease: ask<{ readonly id: number; readonly tokens: number }, Grant>(7, { lane: 'control' }),
  /** What a node holds of the namespaces that have a quota for it. */
  counted: tell<{ readonly node: string; readonly usages: readonly Usage[] }>(8),
});
export type Catalog = typeof Catalog.messages;
