// Watches keys: changes as they happen, over connections that come and go. Where one ends, another
// node goes on after the last event that was taken; what comes twice by that is left out as far as
// it is remembered. A `reset` is handed on: whoever watches lists the keys again. An `end` is an error.

import type { WatchEvent, WatchOptions } from './client-types.ts';
import type { ClusterCalls } from './cluster-calls.ts';
import { EventStreamParser, type ServerEvent } from './event-stream.ts';
import { ClientError } from './http-exchange.ts';
import { namedKey, parsedKey, prefixQuery } from './keys.ts';
import { valueOf } from './key-requests.ts';

const rememberedMax = 10_000;

interface ChangeDocument {
  readonly key: unknown;
  readonly value?: unknown;
  readonly encoding?: string;
  readonly version: number;
  readonly etag: string;
  readonly timestamp: number;
  readonly expires_at?: number;
  readonly reason?: string;
}

export async function* watchKeys(
  calls: ClusterCalls,
  { prefix = '', values = true, after = '', signal }: WatchOptions,
  common: Readonly<Record<string, string>>,
): AsyncGenerator<WatchEvent> {
  const query = new URLSearchParams({ values: String(values), ...prefixQuery(prefix) });
  const path = `/api/v1/watch?${query.toString()}`;
  const told = new Told();
  let id = after;
  for (;;) {
    const headers = { ...common, ...(id === '' ? {} : { 'last-event-id': id }) };
    const stream = await calls.stream({ method: 'GET', path, headers, signal });
    const parser = new EventStreamParser(id);
    try {
      yield* news(eventsOf(stream.chunks, parser), told);
    } finally {
      stream.close();
    }
    signal?.throwIfAborted();
    id = parser.id;
  }
}

async function* news(events: AsyncIterable<WatchEvent>, told: Told): AsyncGenerator<WatchEvent> {
  for await (const event of events) if (told.isNews(event)) yield event;
}

/** Ends without an error where the connection does: the watch goes on with another one. */
async function* eventsOf(
  chunks: AsyncIterable<Uint8Array>,
  parser: EventStreamParser,
): AsyncGenerator<WatchEvent> {
  const iterator = chunks[Symbol.asyncIterator]();
  for (;;) {
    const next = await iterator.next().catch(() => undefined);
    if (next === undefined || next.done === true) return;
    for (const event of parser.feed(next.value)) {
      const parsed = toEvent(event);
      if (parsed !== undefined) yield parsed;
    }
  }
}

function toEvent({ name, data, id }: ServerEvent): WatchEvent | undefined {
  if (name === 'end') throw endOf(data);
  const document = JSON.parse(data) as ChangeDocument;
  if (name === 'ready') return { type: 'ready', id };
  if (name === 'reset') return { type: 'reset', id, reason: document.reason ?? '' };
  const { version, etag, timestamp, encoding, expires_at: expiresAt } = document;
  const common = { ...namedKey(parsedKey(document.key) ?? ''), version, etag, timestamp, id };
  if (name === 'delete' || name === 'expire') return { type: name, ...common };
  if (name !== 'put') return undefined;
  return { type: name, ...common, value: valueOf(document.value, encoding), expiresAt };
}

/** The user may not watch any more, or there is nothing to watch: no other node would go on. */
function endOf(data: string): ClientError {
  const fields = JSON.parse(data) as { code: string; status: number; detail: string };
  return new ClientError(fields.code, fields.status, fields.detail, false, { ...fields });
}

/** The newest etag of the keys that were told last. */
class Told {
  readonly #etags = new Map<string, string>();
  #isReady = false;

  isNews(event: WatchEvent): boolean {
    if (event.type === 'ready') {
      // One of a connection that goes on with the same watch says nothing new.
      const isFirst = !this.#isReady;
      this.#isReady = true;
      return isFirst;
    }
    if (event.type === 'reset') {
      this.#etags.clear();
      return true;
    }
    const { key: shown, keyBytes, type } = event;
    // Text can look as the bytes of another key are shown.
    const key = keyBytes === undefined ? `text ${shown}` : `bytes ${shown}`;
    // An expiry bears the etag of its put.
    const mark = type === 'expire' ? `${event.etag}-expired` : event.etag;
    const known = this.#etags.get(key);
    if (known !== undefined && compareMarks(mark, known) <= 0) return false;
    this.#etags.delete(key);
    this.#etags.set(key, mark);
    const [oldest] = this.#etags.size > rememberedMax ? this.#etags.keys() : [];
    if (oldest !== undefined) this.#etags.delete(oldest);
    return true;
  }
}

/** By time, writer and start of the writer, as the cluster orders writes of a key. */
export function compareMarks(one: string, other: string): number {
  const [a, b] = [one.split('-'), other.split('-')];
  for (let i = 0; i < 3; i += 1) {
    const difference = Number.parseInt(a[i] ?? '', 36) - Number.parseInt(b[i] ?? '', 36);
    if (Number.isNaN(difference))
      throw new ClientError('HTTP_200', 200, `no etag: ${one} or ${other}`, false);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}
