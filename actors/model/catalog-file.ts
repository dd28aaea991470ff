// The last document that a node knew, in a file of its own below the data directory: a node that
// starts without peers knows its namespaces, and one that knew of a drop never forgets it. The
// document as it is stored everywhere, on one line, and its checksum on the next.

import { utf8 } from '../../runtime/bytes.ts';
import { CorruptionError } from '../../runtime/errors.ts';
import { type CatalogDocument, decodeCatalog, encodeCatalog, firstDocument } from './namespaces.ts';
import { openText, sealText } from './sealed-text.ts';

export const catalogFile = 'catalog';

export const encodeCatalogFile = (document: CatalogDocument): Uint8Array =>
  sealText(utf8.decode(encodeCatalog(document)));

/** CorruptionError where the file fails its checksum. */
export function decodeCatalogFile(bytes: Uint8Array): CatalogDocument {
  const text = openText(bytes);
  if (text === undefined) throw new CorruptionError(catalogFile, 0, 'the checksum does not match');
  return decodeCatalog(utf8.encode(text));
}

export interface CatalogFileOptions {
  /** Starts without what the node knew where the file is damaged: others know the document. */
  readonly acceptDataLoss: boolean;
}

/**
 * What this node knew last; epoch 0 where it has never heard of a change. CorruptionError where the
 * file is damaged and that is not accepted.
 */
export function readCatalogFile(
  disk: { readonly read: (path: string) => Uint8Array | undefined },
  { acceptDataLoss }: CatalogFileOptions,
): CatalogDocument {
  const bytes = disk.read(catalogFile);
  if (bytes === undefined) return firstDocument;
  try {
    return decodeCatalogFile(bytes);
  } catch (error) {
    if (error instanceof CorruptionError && acceptDataLoss) return firstDocument;
    throw error;
  }
}
