// Reads the stored bytes of one shard again in the background, so that rot is found while other
// copies are still good (MF-10): each block of each table, and each log segment that is closed
// (scrub-pass.ts).
//
// What it finds it says (file, offset, range of keys) and goes on behind it; nothing is moved or
// removed. The store leaves a damaged table out of compactions, and reads of the damaged block fail
// with CORRUPT by themselves, as every block is verified when it is read (MF-7).
//
// A pass begins `startAfterMs` after the start and `intervalMs` after the pass before.

import { actor, type Context } from '../../runtime/actor.ts';
import { describeFailure, KvError } from '../../runtime/errors.ts';
import type { Counter } from '../../runtime/metrics.ts';
import type { Handlers, Tell } from '../../runtime/protocol.ts';
import { type ScrubDamage, Scrubber, type ScrubStatus } from './protocol.ts';
import { type ScrubPlace, scrubPass } from './scrub-pass.ts';

export interface ScrubberOptions extends ScrubPlace {
  /** From the end of a pass to the next, milliseconds; 0: never. */
  readonly intervalMs: number;
  /** Until the first pass, milliseconds; at most `intervalMs`. */
  readonly startAfterMs: number;
}

interface Found {
  readonly damage: ScrubDamage;
  readonly fileNumber: number | undefined;
}

interface Own {
  readonly scrub: Tell<object>;
  readonly found: Tell<Found>;
  readonly progress: Tell<{ readonly bytes: number; readonly tables: number }>;
  readonly passed: Tell<object>;
  readonly passFailed: Tell<{ readonly reason: string }>;
}

type Needs = 'disk' | 'codecs';

const retryMs = 60_000;
/** Reported one by one; more of them are only counted. */
const damagesMax = 100;

class ScrubberActor implements Handlers<Scrubber>, Handlers<Own> {
  readonly #ctx: Context<Own, Needs>;
  readonly #options: ScrubberOptions;
  readonly #bytes: Counter;
  #damages: ScrubDamage[] = [];
  #damageCount = 0;
  /** Of the last whole pass: what is found stays known until the next one says otherwise. */
  #before: { readonly damages: readonly ScrubDamage[]; readonly damageCount: number } = {
    damages: [],
    damageCount: 0,
  };
  #lastPassMs: number | undefined;
  #passes = 0;
  #passTables = 0;
  #passBytes = 0;

  constructor(ctx: Context<Own, Needs>, options: ScrubberOptions) {
    this.#ctx = ctx;
    this.#options = options;
    const labels = { shard: String(ctx.shard) };
    const { metrics } = ctx;
    this.#bytes = metrics.counter('kvd_scrub_bytes_total', 'Stored bytes read again', labels);
    const damages = (): number => this.status().damageCount;
    metrics.gauge('kvd_scrub_damages', 'Damages that the scrubber found', damages, labels);
    const age = (): number => this.status().ageMs / 1000;
    metrics.gauge('kvd_scrub_age_seconds', 'Since all was read again; -1: not yet', age, labels);
  }

  start(): void {
    const { intervalMs, startAfterMs } = this.#options;
    if (intervalMs > 0) this.#ctx.after(Math.min(startAfterMs, intervalMs), 'scrub', {});
  }

  status(): ScrubStatus {
    const nowMs = this.#ctx.clock.monotonicMs();
    const ageMs = this.#lastPassMs === undefined ? -1000 : nowMs - this.#lastPassMs;
    const figures = { passes: this.#passes, tables: this.#passTables, bytes: this.#passBytes };
    const { damages, damageCount } =
      this.#damageCount >= this.#before.damageCount
        ? { damages: this.#damages, damageCount: this.#damageCount }
        : this.#before;
    return { ...figures, ageMs, damageCount, damages };
  }

  scrub(): void {
    const { disk, codecs, shard, toSelf } = this.#ctx;
    const place = this.#options;
    this.#damages = [];
    this.#damageCount = 0;
    this.#passTables = 0;
    this.#passBytes = 0;
    const found = (damage: ScrubDamage, fileNumber: number | undefined): void =>
      toSelf('found', { damage, fileNumber });
    const progress = (step: { readonly bytes: number; readonly tables: number }): void =>
      toSelf('progress', step);
    this.#ctx.session(async (session) => {
      try {
        await scrubPass({ session, disk, codecs, shard, place, found, progress });
        toSelf('passed', {});
      } catch (error) {
        if (!(error instanceof KvError)) throw error;
        toSelf('passFailed', { reason: describeFailure(error.toFailure()) });
      }
    });
  }

  found({ damage, fileNumber }: Found): void {
    const { log, shard, probe, tell } = this.#ctx;
    probe.reach('scrub found damage');
    log.error('scrub.damage', { shard, ...damage });
    this.#damageCount += 1;
    if (this.#damages.length < damagesMax) this.#damages.push(damage);
    if (fileNumber !== undefined) tell(this.#options.store, 'damaged', { fileNumber });
  }

  progress({ bytes, tables }: { readonly bytes: number; readonly tables: number }): void {
    this.#bytes.add(bytes);
    this.#passBytes += bytes;
    this.#passTables += tables;
  }

  passed(): void {
    const { log, shard, clock, probe, after } = this.#ctx;
    this.#passes += 1;
    this.#lastPassMs = clock.monotonicMs();
    this.#before = { damages: this.#damages, damageCount: this.#damageCount };
    probe.reach('scrub pass');
    const read = { tables: this.#passTables, bytes: this.#passBytes, damages: this.#damageCount };
    log.info('scrub.done', { shard, ...read });
    after(this.#options.intervalMs, 'scrub', {});
  }

  passFailed({ reason }: { readonly reason: string }): void {
    this.#ctx.log.warn('scrub.failed', { shard: this.#ctx.shard, reason });
    this.#ctx.after(Math.min(retryMs, this.#options.intervalMs), 'scrub', {});
  }
}

export const scrubber = actor({
  protocol: Scrubber,
  needs: ['disk', 'codecs'],
  create: (ctx: Context<Own, Needs>, options: ScrubberOptions) => new ScrubberActor(ctx, options),
});
