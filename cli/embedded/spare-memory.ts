// Memory of stores that were closed, for those that are opened next: a program that closes and opens
// again has the memory of one store, and no work with giving it back. Held weakly here: it goes when
// the garbage collector happens to run. That counts no shared memory as a reason to run, so what
// nobody used would stay resident for long otherwise.

export class Spare<Memory extends ArrayBufferLike> {
  readonly #make: (bytes: number) => Memory;
  #kept: WeakRef<Memory>[] = [];

  constructor(make: (bytes: number) => Memory) {
    this.#make = make;
  }

  /** Of so many bytes, with anything in them. */
  take(bytes: number): Memory {
    const alive = this.#kept.filter((reference) => reference.deref() !== undefined);
    const at = alive.findIndex((reference) => reference.deref()?.byteLength === bytes);
    const found = alive[at]?.deref();
    if (found !== undefined) alive.splice(at, 1);
    this.#kept = alive;
    return found ?? this.#make(bytes);
  }

  /** Nobody reads or writes it any more. */
  giveBack(memory: Memory): void {
    this.#kept.push(new WeakRef(memory));
  }
}

export const spareArenas = new Spare((bytes) => new SharedArrayBuffer(bytes));
export const spareArrays = new Spare((bytes) => new ArrayBuffer(bytes));
