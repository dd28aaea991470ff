// Writes the audit log of its node (rule SE-29): what administrators did and who was refused. Each
// line is written before the next message is handled and synced soon after, so a crash of the process
// loses nothing and a loss of power the last second.
//
// Bounded in two ways: by the number and size of its files, and by lines per second, so that somebody
// who is refused without end neither fills the disk nor pushes out quickly what others did.

import { actor, type Context, type Later } from '../../runtime/actor.ts';
import { utf8 } from '../../runtime/bytes.ts';
import type { DiskFile } from '../../runtime/environment.ts';
import { CorruptionError, KvError } from '../../runtime/errors.ts';
import type { Handlers, Tell } from '../../runtime/protocol.ts';
import { TokenBuckets } from '../model/token-buckets.ts';
import {
  auditDirectory,
  auditFileBytes,
  auditFilesMax,
  auditLine,
  auditNumbers,
  auditPath,
} from './audit-files.ts';
import { type AuditEntry, Auditor } from './protocol.ts';

export interface AuditorOptions {
  /** Default: those of audit-files.ts. */
  readonly fileBytes?: number;
  readonly filesMax?: number;
}

interface Own {
  readonly opened: Tell<{ readonly number: number }>;
  readonly sync: Tell<object>;
}

const syncAfterMs = 1_000;
/** Lines about refusals, of all clients together; what is done is always written. */
const refusals = { perSecond: 20, nodes: 1, burst: 200 } as const;
const newline = 0x0a;

class AuditorActor implements Handlers<Auditor>, Handlers<Own> {
  readonly #ctx: Context<Own, 'disk'>;
  readonly #options: AuditorOptions;
  readonly #refusals = new TokenBuckets<'all'>();
  #file: DiskFile | undefined;
  #number = 0;
  #bytes = 0;
  #leftOut = 0;
  #lines = 0;
  #lost = 0;
  #willSync = false;

  constructor(ctx: Context<Own, 'disk'>, options: AuditorOptions) {
    this.#ctx = ctx;
    this.#options = options;
    const { metrics } = ctx;
    metrics.gauge('kvd_audit_lines_total', 'Lines of the audit log', () => this.#lines);
    metrics.gauge('kvd_audit_lost_total', 'Lines that could not be written', () => this.#lost);
  }

  start(): Later<void> {
    const { disk, session, toSelf } = this.#ctx;
    return session(async () => {
      await disk.makeDirectory(auditDirectory);
      toSelf('opened', { number: auditNumbers(disk.list(auditDirectory)).at(-1) ?? 1 });
    });
  }

  /** Goes on with the last file; what a crash cut off stays a line of its own. */
  opened({ number }: { readonly number: number }): void {
    this.#guarded(() => this.#open(number));
  }

  happened(entry: AuditEntry): void {
    const { clock, node } = this.#ctx;
    const isRefusal = entry.outcome !== 'done';
    if (isRefusal && this.#refusals.take('all', refusals, 1, clock.monotonicMs()).granted === 0) {
      this.#leftOut += 1;
      return;
    }
    const facts = { timeMs: clock.wallMicros() / 1000, node, leftOut: this.#leftOut };
    const line = utf8.encode(auditLine(entry, facts));
    this.#guarded(() => {
      this.#makeRoom(line.length);
      this.#write(line);
      this.#leftOut = 0;
      this.#lines += 1;
    });
  }

  sync(): void {
    this.#willSync = false;
    this.#file?.sync((error) => {
      if (error !== undefined) this.#ctx.log.error('audit.not-synced', { reason: error.message });
    });
  }

  // ---- files -------------------------------------------------------------------------------

  #open(number: number): void {
    const { disk } = this.#ctx;
    const path = auditPath(number);
    this.#file?.close();
    this.#file = disk.open(path, disk.exists(path) ? 'modify' : 'create');
    this.#number = number;
    this.#bytes = this.#file.size();
    if (this.#bytes === 0) return;
    const last = new Uint8Array(1);
    this.#file.read(last, this.#bytes - 1);
    if (last[0] !== newline) this.#write(Uint8Array.of(newline));
  }

  #makeRoom(length: number): void {
    const { fileBytes = auditFileBytes, filesMax = auditFilesMax } = this.#options;
    if (this.#file === undefined) this.#open(Math.max(1, this.#number));
    if (this.#bytes === 0 || this.#bytes + length <= fileBytes) return;
    this.#file?.sync(() => undefined);
    this.#open(this.#number + 1);
    const { disk } = this.#ctx;
    const numbers = auditNumbers(disk.list(auditDirectory));
    for (const old of numbers.slice(0, Math.max(0, numbers.length - filesMax)))
      disk.remove(auditPath(old));
  }

  #write(bytes: Uint8Array): void {
    this.#file?.write(bytes, this.#bytes);
    this.#bytes += bytes.length;
    if (this.#willSync) return;
    this.#willSync = true;
    this.#ctx.after(syncAfterMs, 'sync', {});
  }

  /** A disk that takes nothing more ends no node for it: what is lost is counted, and the log says why. */
  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      if (!(error instanceof KvError) && !(error instanceof CorruptionError)) throw error;
      this.#lost += 1;
      this.#ctx.log.error('audit.not-written', { reason: error.message });
    }
  }

  drain(): Later<void> {
    const file = this.#file;
    const later = this.#ctx.later<void>();
    if (file === undefined) later.resolve(undefined);
    else file.sync(() => later.resolve(undefined));
    return later;
  }
}

export const auditor = actor({
  protocol: Auditor,
  needs: ['disk'],
  create: (ctx: Context<Own, 'disk'>, options: AuditorOptions) => new AuditorActor(ctx, options),
});
