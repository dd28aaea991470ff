// The socket of a watch: takes events from the watcher only as fast as the client takes them. What
// waits for the client is one answer of the watcher and what the socket holds; a client that takes
// nothing for a minute is cut off. It goes on with the id of the last event that it has.

import type { ServerResponse } from 'node:http';
import type { HttpAnswer } from '../actors/gateway/protocol.ts';
import type { Failure } from '../runtime/errors.ts';

/** The watcher of this node: kernel.ask and kernel.tell with its ref. */
export interface WatchSource {
  readonly next: (
    watch: number,
    waitMs: number,
    timeoutMs: number,
    done: (
      problem: Failure | undefined,
      events: { readonly bytes: Uint8Array; readonly isLast: boolean } | undefined,
    ) => void,
  ) => void;
  readonly close: (watch: number) => void;
}

/** With nothing to tell, a sign of life goes out so often. */
const aliveMs = 10_000;
const marginMs = 5000;
const stuckMs = 60_000;

/** Follows the watch of `answer` until one side ends it. The return value ends it from here. */
export function followWatch(
  raw: ServerResponse,
  { status, headers }: HttpAnswer,
  source: WatchSource,
): () => void {
  const watch = Number(headers['x-watch']);
  let isOpen = true;
  let cut: NodeJS.Timeout | undefined;
  const end = (last?: Uint8Array): void => {
    if (isOpen) raw.end(last);
    isOpen = false;
  };
  const step = (): void => {
    if (!isOpen) return;
    source.next(watch, aliveMs, aliveMs + marginMs, (_problem, events) => {
      if (!isOpen) return;
      // Without an answer the watch is lost: the client begins again where it was.
      if (events === undefined || events.isLast) return end(events?.bytes);
      if (raw.write(events.bytes)) return step();
      cut = setTimeout(() => raw.destroy(), stuckMs);
      raw.once('drain', () => {
        clearTimeout(cut);
        step();
      });
    });
  };
  raw.on('close', () => {
    isOpen = false;
    clearTimeout(cut);
    source.close(watch);
  });
  raw.writeHead(status, headers);
  raw.flushHeaders();
  step();
  return end;
}
