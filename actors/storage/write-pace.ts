// Slows writes down while merges are behind, so that they rarely have to be refused, and while a
// memtable is written to a table. Writers wait for the log, as they do for a slow disk; what waits is
// bounded by the bytes in flight (admission.ts).
//
// RocksDB slows writes down for the same reasons, by a rate that it changes step by step (its wiki,
// "Write Stalls").

import type { Context, Ref } from '../../runtime/actor.ts';
import type { Admission } from './admission.ts';
import type { WalWriter } from './protocol.ts';

export interface WritePaceLimits {
  /** So many tables are merged at once, as a rule. */
  readonly l0Tables: number;
  /** With so many that wait writes are refused. */
  readonly waitingTablesMax: number;
  /** What a flush brings before there was one, bytes. */
  readonly memtableBytes: number;
}

/** Tables that merges take away per second, before the first merge has ended: a guess. */
const firstDrainPerSecond = 0.5;
const factorMin = 0.2;
/** What a merge or a flush before the last one counts, of the last one. */
const decay = 0.8;
/** Flushes would wait for writes where each took less time than the last one. */
const flushFactor = 1.25;
/** A smaller part of a memtable says little of how long all of it takes. */
const flushPartMin = 0.25;

/**
 * The rule for merges that are behind. Once as many tables wait as `softLimit` says, the log takes only
 * so many bytes per second:
 *
 *   what merges take away      tables that wait less after each merge, by the time that all merges
 *                              took, the last ones counting most
 *   times what a flush brings  bytes of records for one table, of the last flushes
 *   times a factor             2 at the soft limit, 1 in the middle between it and the limit at which
 *                              writes are refused, a fifth close to that limit: what was let in has to
 *                              get through
 *
 * So the tables that wait come to rest where as many come as go, about in the middle, and a merge that
 * takes long finds room above it.
 */
export class WritePacer {
  readonly #limits: WritePaceLimits;
  #bytesPerTable: number;
  #drainedTables = 0;
  #mergedMs = 0;

  constructor(limits: WritePaceLimits) {
    this.#limits = limits;
    this.#bytesPerTable = limits.memtableBytes;
  }

  /** With so many tables that wait, and more, writes are slowed down. */
  get softLimit(): number {
    const { l0Tables, waitingTablesMax } = this.#limits;
    return l0Tables + (waitingTablesMax - l0Tables) / 4;
  }

  /** A table of memory has been written, for so many bytes of records. */
  flushed(bytes: number): void {
    this.#bytesPerTable = (this.#bytesPerTable + bytes) / 2;
  }

  /** A merge has ended after so long, and so many tables less wait for theirs. */
  merged(drainedTables: number, tookMs: number): void {
    this.#drainedTables = this.#drainedTables * decay + drainedTables;
    this.#mergedMs = this.#mergedMs * decay + tookMs;
  }

  /** What the log may take; Infinity: all that comes. */
  bytesPerSecond(waitingTables: number): number {
    const { waitingTablesMax } = this.#limits;
    const { softLimit } = this;
    if (waitingTables < softLimit) return Infinity;
    const left = waitingTablesMax - waitingTables;
    const factor = Math.max((2 * left) / (waitingTablesMax - softLimit), factorMin);
    const isKnown = this.#drainedTables > 0 && this.#mergedMs > 0;
    const perSecond = isKnown ? this.#drainedTables / (this.#mergedMs / 1000) : firstDrainPerSecond;
    return perSecond * this.#bytesPerTable * factor;
  }
}

/**
 * The rule for the time of a flush: the log takes no more than fills the next memtable in that time, by
 * what the last flushes took. All of it at full speed and then none until the flush has ended would be
 * as much, with a wait of half a second for whoever comes last.
 */
export class FlushPacer {
  readonly #memtableBytes: number;
  #bytes = 0;
  #tookMs = 0;

  constructor(memtableBytes: number) {
    this.#memtableBytes = memtableBytes;
  }

  /** A memtable of so many bytes of records has been written in so long. */
  flushed(bytes: number, tookMs: number): void {
    if (bytes < this.#memtableBytes * flushPartMin) return;
    this.#bytes = this.#bytes * decay + bytes;
    this.#tookMs = this.#tookMs * decay + tookMs;
  }

  /** What the log may take while the next one is written; Infinity: nothing is known. */
  get bytesPerSecond(): number {
    if (this.#tookMs === 0) return Infinity;
    return (this.#bytes / (this.#tookMs / 1000)) * flushFactor;
  }
}

/** Both rules, told to the log; and at the limit writes are refused. */
export class WritePace {
  readonly #ctx: Pick<Context, 'clock' | 'tell' | 'probe' | 'log'>;
  readonly #wal: Ref<WalWriter>;
  readonly #limits: WritePaceLimits;
  readonly #admission: Admission;
  readonly #pacer: WritePacer;
  readonly #flushPacer: FlushPacer;
  #waitingTables = 0;
  /** Since the last freeze. */
  #loggedBytes = 0;
  /** The flush that goes on: what is in its memtable, and since when. */
  #flush: { readonly bytes: number; readonly startMs: number } | undefined;
  #mergesPerSecond = Infinity;
  #toldPerSecond = Infinity;

  constructor(
    ctx: Pick<Context, 'clock' | 'tell' | 'probe' | 'log' | 'metrics' | 'shard'>,
    wal: Ref<WalWriter>,
    limits: WritePaceLimits,
    admission: Admission,
  ) {
    this.#ctx = ctx;
    this.#wal = wal;
    this.#limits = limits;
    this.#admission = admission;
    this.#pacer = new WritePacer(limits);
    this.#flushPacer = new FlushPacer(limits.memtableBytes);
    const perSecond = (): number => (this.#toldPerSecond === Infinity ? 0 : this.#toldPerSecond);
    const help = 'What the log may take because merges or flushes are behind; 0: all that comes';
    const labels = { shard: String(ctx.shard) };
    ctx.metrics.gauge('kvd_store_write_limit_bytes_per_second', help, perSecond, labels);
  }

  /** Records of so many bytes are on their way to the log, or found nothing to be frozen with. */
  logs(bytes: number): void {
    this.#loggedBytes += bytes;
  }

  /** A memtable is being frozen: what has been logged for it, bytes. */
  freezes(): number {
    const bytes = this.#loggedBytes;
    this.#loggedBytes = 0;
    return bytes;
  }

  /** A memtable for which so many bytes were logged is being written. */
  flushBegins(bytes: number): void {
    this.#flush = { bytes, startMs: this.#ctx.clock.monotonicMs() };
    this.#tell();
  }

  /** `written`: it has become a table; `kept`: it stays frozen, to be tried again. */
  flushEnds(outcome: 'written' | 'kept'): void {
    const flush = this.#flush;
    this.#flush = undefined;
    if (flush !== undefined) {
      const { bytes, startMs } = flush;
      this.#pacer.flushed(bytes);
      const tookMs = this.#ctx.clock.monotonicMs() - startMs;
      if (outcome === 'written') this.#flushPacer.flushed(bytes, tookMs);
    }
    this.#tell();
  }

  /** So many tables wait now; `mergedMs`: what the merge took that has just ended, if one has. */
  owes(waitingTables: number, mergedMs?: number): void {
    const drained = Math.max(this.#waitingTables - waitingTables, 0);
    if (mergedMs !== undefined) this.#pacer.merged(drained, mergedMs);
    this.#waitingTables = waitingTables;
    this.#refuse(waitingTables >= this.#limits.waitingTablesMax);
    this.#tell();
  }

  #tell(): void {
    const forMerges = this.#pacer.bytesPerSecond(this.#waitingTables);
    const forFlush = this.#flush === undefined ? Infinity : this.#flushPacer.bytesPerSecond;
    const bytesPerSecond = Math.min(forMerges, forFlush);
    const { probe, tell } = this.#ctx;
    if (this.#mergesPerSecond === Infinity && forMerges < Infinity)
      probe.reach('writes slowed down');
    this.#mergesPerSecond = forMerges;
    if (bytesPerSecond === this.#toldPerSecond) return;
    if (forFlush < forMerges) probe.reach('writes slowed down by a flush');
    this.#toldPerSecond = bytesPerSecond;
    tell(this.#wal, 'pace', { bytesPerSecond });
  }

  #refuse(isStalled: boolean): void {
    const { probe, log } = this.#ctx;
    if (isStalled && !this.#admission.isStalled) {
      probe.reach('writes stalled by compaction');
      log.warn('store.stalled', { waitingTables: this.#waitingTables });
    }
    this.#admission.isStalled = isStalled;
  }
}
