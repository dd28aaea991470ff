// When a holder may forget an atomic batch (BL-4). Pure: the holder sends and this counts.
//
//   each copy (a record for one of its replicas)
//     open --the replica has it on disk-------------> settled
//          --a hint for it is on this holder's disk--> settled
//
// The entry is all that makes a half-sent batch complete. So it goes only when every copy is
// settled; a hint that was written but not synced settles nothing, because a loss of power would
// take it together with the entry.

import { assert } from '../../runtime/errors.ts';

export class BatchDelivery {
  readonly #open: Set<string>[];
  #left = 0;

  /** The replicas of each record, in the order of the records; at least one record. */
  constructor(replicas: readonly (readonly string[])[]) {
    assert(replicas.length > 0, 'a batch without records');
    this.#open = replicas.map((nodes) => new Set(nodes));
    for (const nodes of this.#open) {
      assert(nodes.size > 0, 'a record without replicas');
      this.#left += nodes.size;
    }
  }

  /** Nothing is open any more: the entry may be removed. */
  get isSettled(): boolean {
    return this.#left === 0;
  }

  /** The replica acknowledged the record as durable. Again: no change. */
  delivered(record: number, node: string): void {
    this.#settle(record, node);
  }

  /** A hint of the record for that replica was synced. Again: no change. */
  hintSynced(record: number, node: string): void {
    this.#settle(record, node);
  }

  /** Replicas that still need the record, in the order given. */
  openOf(record: number): readonly string[] {
    return [...this.#nodesOf(record)];
  }

  #settle(record: number, node: string): void {
    if (this.#nodesOf(record).delete(node)) this.#left -= 1;
  }

  #nodesOf(record: number): Set<string> {
    const nodes = this.#open[record];
    assert(nodes !== undefined, 'a record that is not in the batch');
    return nodes;
  }
}
