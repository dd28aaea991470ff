// Documents of namespaces that choose how their tables are kept, for tests of the storage.

import {
  type CatalogDocument,
  encodeCatalog,
  firstDocument,
  plainSettings,
} from '../../actors/model/namespaces.ts';
import {
  type CompactionStrategy,
  compactionStrategies,
  type Compression,
  compressions,
} from '../../actors/model/table-choices.ts';
import type { Prng } from '../../runtime/prng.ts';

export interface Choice {
  readonly compaction?: CompactionStrategy | '';
  readonly compression?: Compression | '';
}

/** Namespaces 0 up to `count`; `choices` by id. */
export const documentOf = (
  count: number,
  choices: Readonly<Record<number, Choice>>,
  epoch = 1,
): CatalogDocument => ({
  ...firstDocument,
  epoch,
  nextId: count,
  namespaces: Array.from({ length: count }, (_, id) => ({
    ...plainSettings,
    name: id === 0 ? 'default' : `ns${id}`,
    id,
    createdMs: 0,
    ...choices[id],
  })),
});

/** Every namespace has something of its own, or not. */
export function drawChoices(random: Prng, count: number): Record<number, Choice> {
  const choices: Record<number, Choice> = {};
  for (let id = 0; id < count; id += 1)
    if (random.chance(0.6))
      choices[id] = {
        compaction: random.pick(['', ...compactionStrategies] as const),
        compression: random.pick(['', ...compressions] as const),
      };
  return choices;
}

/** As a store is told of it. */
export const toldOf = (document: CatalogDocument): { readonly document: Uint8Array } => ({
  document: encodeCatalog(document),
});
