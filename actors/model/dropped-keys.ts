// What a part of a node knows of namespaces that are gone. A replica takes no part in anything about
// their keys, so that no coordinator finds a quorum for one, however little that one has heard;
// repair leaves them out, and storage clears them away.

import { type CatalogDocument, decodeCatalog, firstNamespaces, Namespaces } from './namespaces.ts';
import { namespaceOf, privateNamespaces, recordKey } from './record.ts';

/** Of a compaction: ids below `nextId` that are not among the living are gone. */
export interface DroppedNamespaces {
  readonly nextId: number;
  readonly living: readonly number[];
}

/** Ids from `from` up to, not including, `to`. */
export interface IdRange {
  readonly from: number;
  readonly to: number;
}

export class DroppedKeys {
  #namespaces = firstNamespaces;

  /** An older document than the known one has no effect; true: it was newer. */
  changed({ document }: { readonly document: Uint8Array }): boolean {
    return this.knows(decodeCatalog(document));
  }

  knows(document: CatalogDocument): boolean {
    if (document.epoch <= this.#namespaces.epoch) return false;
    this.#namespaces = new Namespaces(document);
    return true;
  }

  /** What is known. */
  get document(): CatalogDocument {
    return this.#namespaces.document;
  }

  /** Of a storage key, or the beginning of one. */
  has(key: Uint8Array): boolean {
    return this.#namespaces.document.nextId > 1 && this.#namespaces.isDroppedKey(key);
  }

  /** NO_SUCH_NAMESPACE where the key's namespace was dropped. */
  refuse(key: Uint8Array): void {
    this.#namespaces.refuseDropped(key);
  }

  /** The same of a record's key. */
  refuseRecord(record: Uint8Array): void {
    if (this.#namespaces.document.nextId > 1) this.refuse(recordKey(record));
  }

  /** Undefined: nothing was ever dropped. */
  get all(): DroppedNamespaces | undefined {
    const { nextId, namespaces } = this.#namespaces.document;
    const living = namespaces.map(({ id }) => id);
    return living.length === nextId ? undefined : { nextId, living };
  }
}

/** Whether a storage key is of a namespace that is gone, or of what a replica keeps about one. */
export function isDroppedBy({ nextId, living }: DroppedNamespaces): (key: Uint8Array) => boolean {
  const alive = new Set(living);
  return (key) => {
    const id = namespaceOf(key);
    const own = id >= privateNamespaces ? id - privateNamespaces : id;
    return own < nextId && !alive.has(own);
  };
}

/** The gaps between the living, and the same of what replicas keep for themselves. */
export function droppedRanges({ nextId, living }: DroppedNamespaces): readonly IdRange[] {
  const sorted = [...living].sort((a, b) => a - b);
  const gaps = [...sorted, nextId].flatMap((to, i) => {
    const from = (sorted[i - 1] ?? -1) + 1;
    return from < to ? [{ from, to }] : [];
  });
  const shifted = gaps.map(({ from, to }) => ({
    from: from + privateNamespaces,
    to: to + privateNamespaces,
  }));
  return [...gaps, ...shifted];
}
