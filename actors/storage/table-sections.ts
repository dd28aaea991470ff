// Where tables are cut: the key space of a shard by namespaces. Keys begin with the id of their
// namespace, so neighbours by id are a range of keys, and a table that is cut at its borders lies
// in one section. Pure.

import { namespaceOf } from '../model/record.ts';
import type { Compression } from '../model/table-choices.ts';
import type { KeyRange } from './key-ranges.ts';

/** Namespaces from an id up to, not including, where the next section begins. */
export interface TableSection {
  readonly fromId: number;
  readonly compression: Compression;
}

/** The section of an id. The first one begins at 0, and they ascend. */
export function sectionOf(sections: readonly { readonly fromId: number }[], id: number): number {
  let low = 0;
  let high = sections.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    if ((sections[middle]?.fromId ?? 0) <= id) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** Undefined: the range lies in several. */
export function onlySectionOf(
  sections: readonly { readonly fromId: number }[],
  { firstKey, lastKey }: KeyRange,
): number | undefined {
  if (sections.length === 1) return 0;
  const first = sectionOf(sections, namespaceOf(firstKey));
  return first === sectionOf(sections, namespaceOf(lastKey)) ? first : undefined;
}

/**
 * The same with small neighbours as one, packed as `plain` says: a flush makes no table for a
 * section that has less than `bytesMin` in it where there is another such one beside it. `sizes`:
 * bytes of each section; what has none is left out.
 */
export function joinSmall(
  sections: readonly TableSection[],
  sizes: readonly number[],
  { bytesMin, plain }: { readonly bytesMin: number; readonly plain: Compression },
): readonly TableSection[] {
  const joined: TableSection[] = [];
  let isOpen = false;
  for (const [i, section] of sections.entries()) {
    const bytes = sizes[i] ?? 0;
    if (bytes === 0) continue;
    const isSmall = bytes < bytesMin;
    const last = joined[joined.length - 1];
    if (isSmall && isOpen && last !== undefined)
      joined[joined.length - 1] = { fromId: last.fromId, compression: plain };
    else joined.push(section);
    isOpen = isSmall;
  }
  return joined;
}
