// How much is in the namespaces that have a quota for it. Each node counts the live records that it
// holds itself, page by page and at a bounded rate, and tells the others; the sum over all nodes is
// divided by the copies of a key. A figure is as old as the last count of each node, so a namespace
// can go over its quota by what is written meanwhile; nodes that have not told yet are taken for
// average ones.

import type { Ref, Session } from '../../runtime/actor.ts';
import type { Clock } from '../../runtime/environment.ts';
import { justAfter, noBytes } from '../../runtime/bytes.ts';
import { errorTable, KvError } from '../../runtime/errors.ts';
import type { Usage } from '../model/namespaces.ts';
import {
  isLive,
  namespaceBytes,
  recordKey,
  recordKeyLength,
  recordValueLength,
  storageKey,
} from '../model/record.ts';
import type { RecordPage } from '../model/record-pages.ts';
import { type Pauses, tryAgain } from '../model/try-again.ts';
import type { RangeRequest, Store } from '../storage/protocol.ts';

const pageRows = 512;
const pageBytes = 256 * 1024;
const pageTimeoutMs = 30_000;
/** How fast a node reads for its counts. */
const bytesPerSecond = 16 * 1024 * 1024;

/** A page that fails is asked for so often, with pauses from the first to the longest, doubled. */
const pageTriesMax = 8;
const pauses: Pauses = { firstMs: 500, longestMs: 30_000 };

/**
 * Counts what the stores of this node hold of a namespace. A page that a store refuses for now is
 * asked for again, and the count goes on there; it throws what the last try came to.
 */
export async function countNamespace(
  session: Session,
  stores: readonly Ref<Store>[],
  id: number,
  clock: Clock,
): Promise<Usage> {
  const count = { id, keys: 0, bytes: 0 };
  const to = storageKey(id + 1, noBytes);
  for (const store of stores) {
    let from: Uint8Array | undefined = storageKey(id, noBytes);
    while (from !== undefined) {
      const request: RangeRequest = { from, to, limit: pageRows, bytes: pageBytes };
      const page = await readPage(session, store, request);
      const readBytes = addPage(count, page, clock.wallMicros() / 1000);
      const last = page.records[page.records.length - 1];
      from = page.isDone || last === undefined ? undefined : justAfter(recordKey(last));
      if (from !== undefined) await session.sleep((readBytes / bytesPerSecond) * 1000);
    }
  }
  return count;
}

function readPage(session: Session, store: Ref<Store>, request: RangeRequest): Promise<RecordPage> {
  let tries = 0;
  const mayTryAgain = (error: unknown): boolean => {
    tries += 1;
    const mayPass = error instanceof KvError && errorTable[error.code].retry !== 'never';
    return mayPass && tries < pageTriesMax;
  };
  const ask = (): Promise<RecordPage> => session.ask(store, 'range', request, pageTimeoutMs);
  return tryAgain(session, pauses, ask, mayTryAgain);
}

/** The bytes that were read. */
function addPage(
  count: { keys: number; bytes: number },
  { records }: RecordPage,
  nowMs: number,
): number {
  let readBytes = 0;
  for (const record of records) {
    readBytes += record.length;
    if (!isLive(record, nowMs)) continue;
    count.keys += 1;
    count.bytes += recordKeyLength(record) - namespaceBytes + recordValueLength(record);
  }
  return readBytes;
}

/** The last counts of all nodes. */
export class UsageTable {
  readonly #byNode = new Map<string, readonly Usage[]>();

  heard(node: string, usages: readonly Usage[]): void {
    this.#byNode.set(node, usages);
  }

  /** What the cluster holds of a namespace; undefined where nobody has counted it yet. */
  total(id: number, members: number, copies: number): Usage | undefined {
    const counts = [...this.#byNode.values()].flatMap(
      (usages) => usages.find((each) => each.id === id) ?? [],
    );
    if (counts.length === 0) return undefined;
    const factor = members / counts.length / copies;
    const sum = (of: (usage: Usage) => number): number =>
      Math.round(counts.reduce((all, each) => all + of(each), 0) * factor);
    return { id, keys: sum(({ keys }) => keys), bytes: sum(({ bytes }) => bytes) };
  }
}
