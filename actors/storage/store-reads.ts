// How a store reads: its row cache, then memory, then tables; the winner by HLC-1, whatever its age
// (MF-9). What is asked of memory and tables is answered in the turn of the reader wherever nothing
// was sent to them before that they have not heard of yet (decision 18).

import type { BaseContext, Later, Ref } from '../../runtime/actor.ts';
import { failure } from '../../runtime/errors.ts';
import type { BodyOf, ReplyOf } from '../../runtime/protocol.ts';
import { recordHlc } from '../model/record.ts';
import { mergePages, type RecordPage } from '../model/record-pages.ts';
import { type Resolve, resolveAll } from '../model/resolve.ts';
import type { Memtable, RangeRequest, Store, TableReader } from './protocol.ts';
import type { RowCache } from './row-cache.ts';
import { internalTimeoutMs } from './store-steps.ts';

export type Found = ReplyOf<Store['read']>;
type Look = BodyOf<Store['read']>;

interface ReadParts {
  readonly memtable: Ref<Memtable>;
  readonly tables: Ref<TableReader>;
  readonly resolve: Resolve;
}

export class StoreReads {
  readonly #ctx: Pick<BaseContext<never>, 'ask' | 'later' | 'peek'>;
  readonly #parts: ReadParts;
  readonly #rows: RowCache;
  #tableCount = 0;
  #tablesMaxHlc = 0;

  constructor(
    ctx: Pick<BaseContext<never>, 'ask' | 'later' | 'peek'>,
    parts: ReadParts,
    rows: RowCache,
  ) {
    this.#ctx = ctx;
    this.#parts = parts;
    this.#rows = rows;
  }

  /** A record in memory above `maxHlc` needs no look at the tables. */
  tablesChanged(count: number, maxHlc: number): void {
    this.#tableCount = count;
    this.#tablesMaxHlc = maxHlc;
  }

  read(look: Look): Found | Later<Found> {
    const { key, hash } = look;
    const cached = this.#rows.get(key, hash);
    if (cached !== undefined) return { record: cached === 'absent' ? undefined : cached };
    const ticket = this.#rows.ticket(hash);
    const { memtable, tables, resolve } = this.#parts;
    const recent = this.#ctx.peek(memtable, 'get', look)?.reply;
    if (recent === undefined) return this.#readLater(look, ticket);
    let { record } = recent;
    const aboveHlc = record === undefined ? 0 : recordHlc(record);
    if (this.#mayBeInTables(aboveHlc)) {
      const stored = this.#ctx.peek(tables, 'get', { key, hash, aboveHlc })?.reply;
      if (stored === undefined) return this.#readLater(look, ticket);
      if (stored.record !== undefined) record = resolveAll([record, stored.record], resolve);
    }
    this.#rows.fill(key, hash, record, ticket);
    return { record };
  }

  /** What wins over a record of this stamp. */
  #mayBeInTables(aboveHlc: number): boolean {
    return this.#tableCount > 0 && aboveHlc <= this.#tablesMaxHlc;
  }

  #readLater({ key, hash }: Look, ticket: number): Later<Found> {
    const { memtable, tables, resolve } = this.#parts;
    const later = this.#ctx.later<Found>();
    const answer = (record: Uint8Array | undefined): void => {
      this.#rows.fill(key, hash, record, ticket);
      later.resolve({ record });
    };
    this.#ctx.ask(memtable, 'get', { key }, internalTimeoutMs, (problem, found) => {
      if (found === undefined) return later.fail(problem ?? failure('BUG'));
      const { record } = found;
      const aboveHlc = record === undefined ? 0 : recordHlc(record);
      if (!this.#mayBeInTables(aboveHlc)) return answer(record);
      const look = { key, hash, aboveHlc };
      this.#ctx.ask(tables, 'get', look, internalTimeoutMs, (trouble, stored) => {
        if (stored === undefined) later.fail(trouble ?? failure('BUG'));
        else answer(resolveAll([record, stored.record], resolve));
      });
    });
    return later;
  }

  range(request: RangeRequest): Later<RecordPage> {
    const { memtable, tables, resolve } = this.#parts;
    const later = this.#ctx.later<RecordPage>();
    this.#ctx.ask(memtable, 'range', request, internalTimeoutMs, (problem, recent) => {
      if (recent === undefined) return later.fail(problem ?? failure('BUG'));
      if (this.#tableCount === 0) return later.resolve(recent);
      this.#ctx.ask(tables, 'range', request, internalTimeoutMs, (trouble, stored) => {
        if (stored === undefined) later.fail(trouble ?? failure('BUG'));
        else later.resolve(mergePages([recent, stored], request.limit, resolve));
      });
    });
    return later;
  }
}
