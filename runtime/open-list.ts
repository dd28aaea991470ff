// What is open, in the order in which it began: added and removed all the time by those who hold it.
//
// A Set would do, but for V8's collector: a Set that changes all the time copies its table again and
// again, and an old table leads to the next one and to what it held. Once one table has grown old,
// every later one and every item that ever passed is moved to the old generation, though a few are
// open at a time (docs/performance.md). Here a removed item leaves nothing behind.

/** An item knows where it stands: a number that the list alone sets, -1 while it is in none. */
export interface Listed {
  place: number;
}

const capacityMin = 64;

export class OpenList<Item extends Listed> {
  readonly #items: (Item | undefined)[] = [];
  /** Behind the last item; places before it may be free. */
  #end = 0;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** An item of no list. */
  add(item: Item): void {
    if (this.#end >= capacityMin && this.#end >= 2 * this.#size) this.#closeUp();
    item.place = this.#end;
    this.#items[this.#end] = item;
    this.#end += 1;
    this.#size += 1;
  }

  /** False where it is in the list no more. */
  delete(item: Item): boolean {
    if (item.place < 0) return false;
    this.#items[item.place] = undefined;
    item.place = -1;
    this.#size -= 1;
    if (this.#size === 0) this.#end = 0;
    return true;
  }

  /** Those that are there now, but for what `use` removes before their turn. */
  forEach(use: (item: Item) => void): void {
    for (const item of this.#items.slice(0, this.#end))
      if (item !== undefined && item.place >= 0) use(item);
  }

  /** Gives the free places back; each addition pays for one step of it. */
  #closeUp(): void {
    let end = 0;
    for (let from = 0; from < this.#end; from += 1) {
      const item = this.#items[from];
      if (item === undefined) continue;
      this.#items[from] = undefined;
      this.#items[end] = item;
      item.place = end;
      end += 1;
    }
    this.#end = end;
  }
}
