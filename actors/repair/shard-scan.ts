// Reads the whole of a shard, memory and tables, a page at a time and no faster than asked for, as
// functions of a session: once to sum it up, and once more for the keys of the leaves that differ.
// Between two pages everyone else of the thread has a turn.

import type { Ref, Session } from '../../runtime/actor.ts';
import { crc32, justAfter, noBytes } from '../../runtime/bytes.ts';
import { type Pace, pacedPage } from '../model/paced-page.ts';
import {
  isLive,
  recordHlc,
  recordIncarnation,
  recordKey,
  recordToken,
  recordWriter,
  privateKeysFrom,
} from '../model/record.ts';
import type { ReplicaSets } from '../model/replica-sets.ts';
import { leafOf, nodeKey, SumTree } from '../model/sum-tree.ts';
import type { Store } from '../storage/protocol.ts';

export interface ScanPlace extends Omit<Pace, 'session'> {
  readonly store: Ref<Store>;
  readonly sets: ReplicaSets;
  /** Keys of namespaces that are gone: nobody compares them any more. */
  readonly isDropped: (key: Uint8Array) => boolean;
}

/** Which records a session looks at (AE-1, AE-3). */
export interface ScanView {
  readonly bits: number;
  readonly nowMs: number;
  /** By number of the set. */
  readonly floors: readonly number[];
}

export interface DigestPage {
  readonly keys: readonly Uint8Array[];
  readonly stamps: readonly number[];
  readonly through: Uint8Array | undefined;
}

const pageRows = 256;
const pageBytes = 256 * 1024;
const pageTimeoutMs = 60_000;
/** Digests of one answer, and pages that are read for it. */
const digestsMax = 512;
const digestPagesMax = 8;

/** A tombstone that some member may have purged already is left out on every side. */
function isCompared(record: Uint8Array, set: number, { nowMs, floors }: ScanView): boolean {
  return recordHlc(record) > (floors[set] ?? 0) || isLive(record, nowMs);
}

/** Sums up the shard; gives up, with undefined, as soon as `isWanted` says no. */
export async function sumShard(
  session: Session,
  place: ScanPlace,
  view: ScanView,
  isWanted: () => boolean,
): Promise<SumTree | undefined> {
  const tree = new SumTree(view.bits);
  let from: Uint8Array | undefined = noBytes;
  while (from !== undefined) {
    if (!isWanted()) return undefined;
    from = await scanPage(session, place, from, (record) => {
      const token = recordToken(record);
      const set = place.sets.indexOf(token);
      if (isCompared(record, set, view)) tree.add(set, token, record);
    });
  }
  return tree;
}

/** The next keys of the wanted leaves; an empty set of leaves: of all leaves of `sets`. */
export async function digestsOf(
  session: Session,
  place: ScanPlace,
  view: ScanView,
  wanted: {
    readonly after: Uint8Array | undefined;
    readonly sets: ReadonlySet<number>;
    readonly leaves: ReadonlySet<number>;
  },
): Promise<DigestPage> {
  const keys: Uint8Array[] = [];
  const stamps: number[] = [];
  let from: Uint8Array | undefined = wanted.after === undefined ? noBytes : justAfter(wanted.after);
  let through: Uint8Array | undefined;
  for (let pages = 0; pages < digestPagesMax && keys.length < digestsMax; pages += 1) {
    from = await scanPage(session, place, from, (record) => {
      const token = recordToken(record);
      const set = place.sets.indexOf(token);
      through = recordKey(record);
      if (!wanted.sets.has(set) || !isCompared(record, set, view)) return;
      const leaf = nodeKey(set, leafOf(token, view.bits));
      if (wanted.leaves.size > 0 && !wanted.leaves.has(leaf)) return;
      keys.push(through.slice());
      const { hlc, writer, incarnation } = stampOf(record);
      stamps.push(hlc, writer, incarnation, crc32(record));
    });
    if (from === undefined) return { keys, stamps, through: undefined };
  }
  return { keys, stamps, through: through?.slice() };
}

const stampOf = (record: Uint8Array): { hlc: number; writer: number; incarnation: number } => ({
  hlc: recordHlc(record),
  writer: recordWriter(record),
  incarnation: recordIncarnation(record),
});

/** Where the next page begins; undefined at the end. */
function scanPage(
  session: Session,
  { store, isDropped, ...pace }: ScanPlace,
  from: Uint8Array,
  each: (record: Uint8Array) => void,
): Promise<Uint8Array | undefined> {
  const request = { from, to: privateKeysFrom, limit: pageRows, bytes: pageBytes };
  return pacedPage(
    { ...pace, session },
    () => session.ask(store, 'range', request, pageTimeoutMs),
    (record) => {
      if (!isDropped(recordKey(record))) each(record);
    },
  );
}
