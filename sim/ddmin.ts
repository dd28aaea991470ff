// Delta debugging (Zeller and Hildebrandt, TSE 2002): from a list that makes something fail, a list
// from which no single element can be left out. Order is kept.

/**
 * The smallest list found for which `fails` holds. `fails` must hold for `items`; it is not asked
 * about them again. A caller with a budget lets `fails` answer false when it is spent.
 */
export async function ddmin<T>(
  items: readonly T[],
  fails: (subset: readonly T[]) => Promise<boolean>,
): Promise<readonly T[]> {
  if (items.length === 0 || (await fails([]))) return [];
  let left = items;
  let parts = 2;
  while (left.length >= 2) {
    const smaller = await withoutOnePart(left, Math.min(parts, left.length), fails);
    if (smaller !== undefined) {
      left = smaller;
      parts = Math.max(2, Math.min(parts, left.length) - 1);
    } else if (parts >= left.length) break;
    else parts *= 2;
  }
  return left;
}

/** `items` without the first of `parts` equal parts that is not needed; undefined: all are. */
async function withoutOnePart<T>(
  items: readonly T[],
  parts: number,
  fails: (subset: readonly T[]) => Promise<boolean>,
): Promise<readonly T[] | undefined> {
  for (let part = 0; part < parts; part += 1) {
    const from = Math.floor((items.length * part) / parts);
    const to = Math.floor((items.length * (part + 1)) / parts);
    const rest = [...items.slice(0, from), ...items.slice(to)];
    if (rest.length > 0 && (await fails(rest))) return rest;
  }
  return undefined;
}
