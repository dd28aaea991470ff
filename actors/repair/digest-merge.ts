// Digests of one stretch of keys from all shards of all members, side by side: for each key who
// holds what. Every part gives its keys in ascending order, page by page; a key is looked at when
// every part has said something about it. Pure.

import { compareBytes } from '../../runtime/bytes.ts';
import { assert } from '../../runtime/errors.ts';
import { compareEtags, type Etag } from '../model/record.ts';
import type { DigestPage } from './shard-scan.ts';

export interface Digest extends Etag {
  /** CRC-32 of the whole record. */
  readonly content: number;
}

export interface HeldKey {
  readonly key: Uint8Array;
  /** By node; who is not named has nothing. */
  readonly held: ReadonlyMap<string, Digest>;
}

const numbersPerKey = 4;

/** What one shard of one member has said. */
export class DigestPart {
  readonly node: string;
  readonly shard: number;
  /** Ask for what comes after this key; undefined: from the start. */
  after: Uint8Array | undefined;
  #page: DigestPage = { keys: [], stamps: [], through: undefined };
  #at = 0;
  #isDone = false;

  constructor(node: string, shard: number) {
    this.node = node;
    this.shard = shard;
  }

  /** It has to be asked before anything can be said about the next key. */
  get isHungry(): boolean {
    return !this.#isDone && this.#at >= this.#page.keys.length;
  }

  get key(): Uint8Array | undefined {
    return this.#page.keys[this.#at];
  }

  feed(page: DigestPage): void {
    this.#page = page;
    this.#at = 0;
    this.after = page.through;
    this.#isDone = page.through === undefined;
  }

  /** The digest of its present key; goes on to the next. */
  take(): Digest {
    const at = this.#at * numbersPerKey;
    const [hlc, writer, incarnation, content] = this.#page.stamps.slice(at, at + numbersPerKey);
    assert(content !== undefined, 'a key without its stamp');
    this.#at += 1;
    return {
      hlc: hlc as number,
      writer: writer as number,
      incarnation: incarnation as number,
      content,
    };
  }
}

/** The next key of all parts; undefined: some part is hungry, or all have ended. */
export function nextKey(parts: readonly DigestPart[]): HeldKey | undefined {
  let lowest: Uint8Array | undefined;
  for (const part of parts) {
    if (part.isHungry) return undefined;
    const { key } = part;
    if (key !== undefined && (lowest === undefined || compareBytes(key, lowest) < 0)) lowest = key;
  }
  if (lowest === undefined) return undefined;
  const held = new Map<string, Digest>();
  for (const part of parts)
    if (part.key !== undefined && compareBytes(part.key, lowest) === 0)
      held.set(part.node, part.take());
  return { key: lowest, held };
}

/** One node for each of the records that may be the winner: equal stamps, different contents. */
export function winnersOf(held: ReadonlyMap<string, Digest>): string[] {
  let newest: Digest | undefined;
  for (const digest of held.values())
    if (newest === undefined || compareEtags(digest, newest) > 0) newest = digest;
  const contents = new Map<number, string>();
  for (const [node, digest] of held)
    if (newest !== undefined && compareEtags(digest, newest) === 0 && !contents.has(digest.content))
      contents.set(digest.content, node);
  return [...contents.values()];
}
