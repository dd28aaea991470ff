// What a replica knows of namespaces that are gone: it takes no part in anything about their keys, so
// that no coordinator finds a quorum for one, however little that one has heard.

import { refTo, type Session } from '../../runtime/actor.ts';
import { Catalog, type CatalogBytes } from '../catalog/protocol.ts';
import { decodeCatalog, firstNamespaces, Namespaces } from '../model/namespaces.ts';

const startTimeoutMs = 60_000;

export class DroppedKeys {
  #namespaces = firstNamespaces;

  /** Takes what the catalog of this node knows; before the first request. */
  async load(session: Session, node: string): Promise<void> {
    this.changed(await session.ask(refTo(Catalog, node), 'document', {}, startTimeoutMs));
  }

  /** An older document than the known one has no effect. */
  changed({ document: bytes }: CatalogBytes): void {
    const document = decodeCatalog(bytes);
    if (document.epoch > this.#namespaces.epoch) this.#namespaces = new Namespaces(document);
  }

  /** Of a storage key, or the beginning of one. */
  has(key: Uint8Array): boolean {
    return this.#namespaces.document.nextId > 1 && this.#namespaces.isDroppedKey(key);
  }

  /** NO_SUCH_NAMESPACE where the key's namespace was dropped. */
  refuse(key: Uint8Array): void {
    this.#namespaces.refuseDropped(key);
  }
}
