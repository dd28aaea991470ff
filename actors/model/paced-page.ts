// A page of a scan over a whole shard that has time: it takes as long as its bytes may take, and
// between two pages everyone else of the thread has a turn. A function of a session.

import type { Session } from '../../runtime/actor.ts';
import { justAfter } from '../../runtime/bytes.ts';
import type { Clock } from '../../runtime/environment.ts';
import { KvError } from '../../runtime/errors.ts';
import { recordKey } from './record.ts';
import type { RecordPage } from './record-pages.ts';

export interface Pace {
  readonly session: Session;
  readonly clock: Clock;
  /** What is read is read no faster. */
  readonly bytesPerSecond: number;
}

/** Where the next page begins; undefined at the end. OVERLOADED: the page came back empty. */
export async function pacedPage(
  { session, clock, bytesPerSecond }: Pace,
  read: () => Promise<RecordPage>,
  each: (record: Uint8Array) => void,
): Promise<Uint8Array | undefined> {
  const startedMs = clock.monotonicMs();
  const { records, isDone } = await read();
  let bytes = 0;
  for (const record of records) {
    each(record);
    bytes += record.length;
  }
  const last = records.at(-1);
  if (last === undefined && !isDone)
    throw new KvError('OVERLOADED', { detail: 'a page of the shard came back empty' });
  const tookMs = clock.monotonicMs() - startedMs;
  await session.sleep(Math.max(0, (bytes / bytesPerSecond) * 1000 - tookMs));
  return isDone || last === undefined ? undefined : justAfter(recordKey(last));
}
