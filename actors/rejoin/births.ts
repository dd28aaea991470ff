// The births of the data directories of all nodes that this one has heard of, in a file below its
// own: one sealed line of JSON, replaced as a whole.

import type { Disk } from '../../runtime/environment.ts';
import { CorruptionError } from '../../runtime/errors.ts';
import { openText, sealText } from '../model/sealed-text.ts';

const birthsFile = 'births';

export class Births {
  readonly #disk: Disk;
  #known: ReadonlyMap<string, number>;
  /** The change before: one after the other, since each replaces the whole file. */
  #last: Promise<unknown> = Promise.resolve();

  /** CorruptionError where the file fails its checksum. */
  constructor(disk: Disk) {
    this.#disk = disk;
    const bytes = disk.read(birthsFile);
    this.#known = bytes === undefined ? new Map() : decode(bytes);
  }

  /**
   * What is known of the node from here on, durably: this birth, or another one that was known
   * before. `isFilled`: this one takes the place of any other.
   */
  admit(node: string, birth: number, isFilled: boolean): Promise<number> {
    const turn = this.#last.then(() => this.#change(node, birth, isFilled));
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  readonly #change = async (node: string, birth: number, isFilled: boolean): Promise<number> => {
    const known = this.#known.get(node);
    if (known === birth || (known !== undefined && !isFilled)) return known;
    const next = new Map(this.#known).set(node, birth);
    await this.#disk.replace(birthsFile, sealText(JSON.stringify([...next])));
    this.#known = next;
    return birth;
  };
}

function decode(bytes: Uint8Array): Map<string, number> {
  const text = openText(bytes);
  if (text === undefined) throw new CorruptionError(birthsFile, 0, 'it fails its checksum');
  return new Map(JSON.parse(text) as [string, number][]);
}
