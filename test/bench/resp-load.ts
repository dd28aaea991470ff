// The Redis protocol for closed-loop.ts: each connection keeps one pipeline of commands on its way.
// Answers are counted by their lengths alone.

import { closedLoop, type Conversation, type LoadResult } from './closed-loop.ts';

export interface RespLoadOptions {
  readonly ports: readonly number[];
  readonly connections: number;
  /** Commands of one pipeline. */
  readonly depth: number;
  /** Commands in all, at most. */
  readonly requests: number;
  /** No pipeline begins later, milliseconds. */
  readonly durationMs?: number;
  /** Commands are due at this rate. Default: when the last pipeline of the connection was answered. */
  readonly perSecond?: number;
  /** A command that each connection sends first. */
  readonly opening?: readonly string[] | undefined;
  /** One pipeline: bytes of `depth` commands from the n-th on. */
  readonly pipeline: (n: number) => Buffer;
}

const encoded = (args: readonly string[]): string =>
  `*${args.length}\r\n${args.map((arg) => `$${Buffer.byteLength(arg)}\r\n${arg}\r\n`).join('')}`;

/** Prepared pipelines of `depth` commands each, used in turn. */
export function pipelines(
  count: number,
  depth: number,
  command: (n: number) => readonly string[],
): (n: number) => Buffer {
  const prepared = Array.from({ length: count }, (_, i) =>
    Buffer.from(Array.from({ length: depth }, (__, j) => encoded(command(i * depth + j))).join('')),
  );
  return (n) => prepared[n % count] as Buffer;
}

/** `perSecond` counts commands, the latencies are of whole pipelines. */
export async function respLoad(options: RespLoadOptions): Promise<LoadResult> {
  const { depth, pipeline, opening, requests, perSecond } = options;
  const result = await closedLoop({
    ...options,
    perSecond: perSecond === undefined ? undefined : perSecond / depth,
    requests: Math.ceil(requests / depth),
    converse: () => respConversation(pipeline, () => depth, opening),
  });
  return { ...result, perSecond: result.perSecond * depth };
}

/** `answersOf`: how many answers the n-th request has. */
export function respConversation(
  request: (n: number) => Buffer,
  answersOf: (n: number) => number,
  opening?: readonly string[],
): Conversation {
  const counter = new AnswerCounter();
  let left = 1;
  return {
    opening: opening === undefined ? undefined : Buffer.from(encoded(opening)),
    ask: (n) => {
      left = answersOf(n);
      return request(n);
    },
    feed: (chunk) => {
      left -= counter.feed(chunk);
      if (left > 0) return undefined;
      const { errors } = counter;
      counter.errors = 0;
      return errors;
    },
  };
}

const lf = 0x0a;
const dollar = 0x24;
const minus = 0x2d;
const star = 0x2a;

/** Counts answers that are lines, bulk strings or flat arrays, without looking into them. */
class AnswerCounter {
  errors = 0;
  #skip = 0;
  /** Items that the array which is read still lacks. */
  #items = 0;
  #type = 0;
  #length = 0;

  feed(chunk: Buffer): number {
    let count = 0;
    let at = 0;
    while (at < chunk.length) {
      if (this.#skip > 0) {
        const step = Math.min(this.#skip, chunk.length - at);
        this.#skip -= step;
        at += step;
        if (this.#skip === 0) count += this.#ended();
        continue;
      }
      const byte = chunk[at] as number;
      at += 1;
      if (this.#type === 0) {
        this.#type = byte;
        this.#length = 0;
        if (byte === minus) this.errors += 1;
      } else if (byte === lf) {
        if (this.#type === dollar && this.#length >= 0) this.#skip = this.#length + 2;
        else if (this.#type === star && this.#length > 0) this.#items = this.#length;
        else count += this.#ended();
        this.#type = 0;
      } else if (byte === minus) this.#length = -1;
      else if ((this.#type === dollar || this.#type === star) && byte >= 0x30 && this.#length >= 0)
        this.#length = this.#length * 10 + byte - 0x30;
    }
    return count;
  }

  /** 1 where the answer is complete. */
  #ended(): number {
    if (this.#items > 0) this.#items -= 1;
    return this.#items === 0 ? 1 : 0;
  }
}
