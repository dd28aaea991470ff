// For maps that remember a bounded number of things: which one goes. A Map keeps its keys in the
// order in which they came; what is used again is deleted and set anew, and counts as the last.

/** Above so many entries, the one that came first goes. */
export function dropOldest<Key>(entries: Map<Key, unknown>, max: number): void {
  if (entries.size <= max) return;
  for (const oldest of entries.keys()) {
    entries.delete(oldest);
    return;
  }
}
