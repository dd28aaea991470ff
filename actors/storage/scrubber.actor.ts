// Reads the stored bytes of one shard again in the background, so that rot is found while other
// copies are still good (MF-10): each block of each table, and each log segment that is closed.
//
// It reads at a bounded rate: after each slice it waits as long as the slice takes at that rate.
// What it finds it says (file, offset, range of keys) and goes on behind it; nothing is moved or
// removed. The store leaves a damaged table out of compactions, and reads of the damaged block fail
// with CORRUPT by themselves, as every block is verified when it is read (MF-7). The records of a
// damaged segment are still in memory: the store is asked to flush, and needs the segment no more.
//
// A pass begins `startAfterMs` after the start and `intervalMs` after the pass before.

import { actor, type Context, type Ref, type Session } from '../../runtime/actor.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { CorruptionError, describeFailure, KvError } from '../../runtime/errors.ts';
import type { Counter } from '../../runtime/metrics.ts';
import type { Handlers, Tell } from '../../runtime/protocol.ts';
import type {
  SegmentEnd,
  ScrubDamage,
  ScrubStatus,
  Store,
  TableMeta,
  WalWriter,
} from './protocol.ts';
import { Scrubber } from './protocol.ts';
import { readSegment } from './segment-reader.ts';
import { openTable, type SstableReader } from './sstable-reader.ts';
import { internalTimeoutMs } from './store-steps.ts';
import { tablePath } from './table-files.ts';

export interface ScrubberOptions {
  readonly store: Ref<Store>;
  readonly wal: Ref<WalWriter>;
  /** Directory of this shard inside the data directory. */
  readonly directory: string;
  readonly identity: { readonly clusterName: string; readonly node: string };
  /** From the end of a pass to the next, milliseconds; 0: never. */
  readonly intervalMs: number;
  /** Until the first pass, milliseconds; at most `intervalMs`. */
  readonly startAfterMs: number;
  readonly bytesPerSecond: number;
}

interface Own {
  readonly scrub: Tell<object>;
}

type Needs = 'disk' | 'lz4';

/** Read at once; then others have their turn. */
const sliceBytes = 256 * 1024;
const retryMs = 60_000;
/** Reported one by one; more of them are only counted. */
const damagesMax = 100;

class ScrubberActor implements Handlers<Scrubber>, Handlers<Own> {
  readonly #ctx: Context<Own, Needs>;
  readonly #options: ScrubberOptions;
  readonly #bytes: Counter;
  #damages: ScrubDamage[] = [];
  #damageCount = 0;
  #lastPassMs: number | undefined;
  #passes = 0;
  #passTables = 0;
  #passBytes = 0;
  /** Read since the last wait. */
  #owedBytes = 0;
  #isDraining = false;

  constructor(ctx: Context<Own, Needs>, options: ScrubberOptions) {
    this.#ctx = ctx;
    this.#options = options;
    const labels = { shard: String(ctx.shard) };
    const { metrics } = ctx;
    this.#bytes = metrics.counter('kvd_scrub_bytes_total', 'Stored bytes read again', labels);
    const damages = (): number => this.#damageCount;
    metrics.gauge('kvd_scrub_damages', 'Damages that the last pass found', damages, labels);
    const age = (): number => this.status().ageMs / 1000;
    metrics.gauge('kvd_scrub_age_seconds', 'Since all was read again; -1: not yet', age, labels);
  }

  start(): void {
    const { intervalMs, startAfterMs } = this.#options;
    if (intervalMs > 0) this.#ctx.after(Math.min(startAfterMs, intervalMs), 'scrub', {});
  }

  drain(): void {
    this.#isDraining = true;
  }

  status(): ScrubStatus {
    const nowMs = this.#ctx.clock.monotonicMs();
    const ageMs = this.#lastPassMs === undefined ? -1000 : nowMs - this.#lastPassMs;
    const figures = { passes: this.#passes, tables: this.#passTables, bytes: this.#passBytes };
    return { ...figures, ageMs, damageCount: this.#damageCount, damages: this.#damages };
  }

  scrub(): void {
    const { log, after, shard } = this.#ctx;
    this.#ctx.session(async (session) => {
      try {
        await this.#pass(session);
        after(this.#options.intervalMs, 'scrub', {});
      } catch (error) {
        if (!(error instanceof KvError)) throw error;
        log.warn('scrub.failed', { shard, reason: describeFailure(error.toFailure()) });
        after(Math.min(retryMs, this.#options.intervalMs), 'scrub', {});
      }
    });
  }

  async #pass(session: Session): Promise<void> {
    const { store, wal } = this.#options;
    const { log, shard, clock, probe } = this.#ctx;
    this.#damages = [];
    this.#damageCount = 0;
    this.#passTables = 0;
    this.#passBytes = 0;
    const { segments } = await session.ask(wal, 'closed', {}, internalTimeoutMs);
    for (const segment of segments) await this.#scrubSegment(session, segment);
    const { tables } = await session.ask(store, 'tables', {}, internalTimeoutMs);
    for (const table of tables) {
      if (this.#isDraining) return;
      await this.#scrubTable(session, table);
      this.#passTables += 1;
    }
    this.#passes += 1;
    this.#lastPassMs = clock.monotonicMs();
    probe.reach('scrub pass');
    const found = { tables: tables.length, bytes: this.#passBytes, damages: this.#damageCount };
    log.info('scrub.done', { shard, ...found });
  }

  // ---- tables --------------------------------------------------------------------------------

  async #scrubTable(session: Session, table: TableMeta): Promise<void> {
    const { disk, lz4 } = this.#ctx;
    const { directory } = this.#options;
    let reader: SstableReader;
    try {
      reader = openTable({ disk, lz4, directory }, table);
    } catch (error) {
      return this.#unopened(session, table, error);
    }
    try {
      let records = 0;
      for (let block = 0; block < reader.blocks && !this.#isDraining; block += 1) {
        records += this.#scrubBlock(table, reader, block);
        await this.#paced(session, reader.spanOf(block).length);
      }
      if (records !== table.records && !this.#isDraining && !this.#isDamaged(table))
        this.#damaged(table, 0, `${records} records of ${table.records}`);
    } finally {
      reader.close();
    }
  }

  #scrubBlock(table: TableMeta, reader: SstableReader, block: number): number {
    try {
      return reader.verifyBlock(block);
    } catch (error) {
      if (!(error instanceof CorruptionError)) throw error;
      const { firstKey, nextKey } = reader.spanOf(block);
      this.#damaged(table, error.offset, error.message, { firstKey, lastKey: nextKey });
      return 0;
    }
  }

  /** Damaged, or removed because a compaction replaced it meanwhile. */
  async #unopened(session: Session, table: TableMeta, error: unknown): Promise<void> {
    if (error instanceof CorruptionError) return this.#damaged(table, error.offset, error.message);
    if (!(error instanceof KvError) || error.code !== 'NOT_FOUND') throw error;
    const { tables } = await session.ask(this.#options.store, 'tables', {}, internalTimeoutMs);
    if (tables.some(({ fileNumber }) => fileNumber === table.fileNumber))
      this.#damaged(table, 0, 'it is gone, the manifest names it');
  }

  #isDamaged({ fileNumber }: TableMeta): boolean {
    const file = tablePath(this.#options.directory, fileNumber);
    return this.#damages.some((damage) => damage.file === file);
  }

  #damaged(
    table: TableMeta,
    offset: number,
    what: string,
    keys: { readonly firstKey: Uint8Array; readonly lastKey: Uint8Array | undefined } = table,
  ): void {
    const { directory, store } = this.#options;
    const firstKey = shownKey(keys.firstKey);
    const lastKey = shownKey(keys.lastKey ?? table.lastKey);
    const file = tablePath(directory, table.fileNumber);
    this.#report({ file, offset, what, firstKey, lastKey });
    this.#ctx.tell(store, 'damaged', { fileNumber: table.fileNumber });
  }

  // ---- log -----------------------------------------------------------------------------------

  async #scrubSegment(session: Session, segment: SegmentEnd): Promise<void> {
    const { disk, shard } = this.#ctx;
    const { path, number, lastLsn, chain } = segment;
    const bytes = disk.read(path);
    // Released since.
    if (bytes === undefined) return;
    const verdict = readSegment(
      bytes,
      {
        kind: 'wal',
        identity: { ...this.#options.identity, shard },
        segmentNumber: number,
        later: { previousLastLsn: lastLsn, previousChain: chain },
        flushedThrough: 0,
        inFlightBytesMax: 0,
      },
      () => undefined,
    );
    if (verdict.kind !== 'end') {
      const { reason: what } = verdict;
      const offset = 'offset' in verdict ? verdict.offset : 0;
      this.#report({ file: path, offset, what, firstKey: '', lastKey: '' });
      await session.ask(this.#options.store, 'flush', {}, internalTimeoutMs);
    }
    await this.#paced(session, bytes.length);
  }

  // ---- both ----------------------------------------------------------------------------------

  #report(damage: ScrubDamage): void {
    const { log, shard, probe } = this.#ctx;
    probe.reach('scrub found damage');
    log.error('scrub.damage', { shard, ...damage });
    this.#damageCount += 1;
    if (this.#damages.length < damagesMax) this.#damages.push(damage);
  }

  async #paced(session: Session, bytes: number): Promise<void> {
    this.#bytes.add(bytes);
    this.#passBytes += bytes;
    this.#owedBytes += bytes;
    if (this.#owedBytes < sliceBytes) return;
    const waitMs = (this.#owedBytes / this.#options.bytesPerSecond) * 1000;
    this.#owedBytes = 0;
    await session.sleep(waitMs);
  }
}

/** A storage key for a person: its namespace, and its text as in JSON. */
function shownKey(key: Uint8Array): string {
  if (key.length < 4) return '';
  const namespace = new DataView(key.buffer, key.byteOffset).getUint32(0);
  return `${namespace}:${JSON.stringify(utf8.decode(key.subarray(4)))}`;
}

export const scrubber = actor({
  protocol: Scrubber,
  needs: ['disk', 'lz4'],
  create: (ctx: Context<Own, Needs>, options: ScrubberOptions) => new ScrubberActor(ctx, options),
});
