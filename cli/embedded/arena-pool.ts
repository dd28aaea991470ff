// Shared memory of stores that were closed, for those that are opened next: a program that closes
// and opens again has the memory of one store. The garbage collector counts no shared memory, so
// what nobody uses would stay resident until it happens to run; held weakly here, it goes then.

const spare: WeakRef<SharedArrayBuffer>[] = [];

/** `count` pieces of `bytes` each, with anything in them. */
export function takeArenas(count: number, bytes: number): SharedArrayBuffer[] {
  const taken: SharedArrayBuffer[] = [];
  for (const reference of spare.splice(0)) {
    const arena = reference.deref();
    if (arena === undefined) continue;
    if (arena.byteLength === bytes && taken.length < count) taken.push(arena);
    else spare.push(reference);
  }
  while (taken.length < count) taken.push(new SharedArrayBuffer(bytes));
  return taken;
}

/** Nobody reads or writes them any more. */
export function giveArenasBack(arenas: readonly SharedArrayBuffer[]): void {
  for (const arena of arenas) spare.push(new WeakRef(arena));
}
