// Loads JSON lines into the cluster: batches of puts in parallel, bounded in memory, each key
// retried by itself until it is acknowledged or given up.
//
// A line's value is spliced into the request as the bytes that it is, never printed anew. Two
// records of one key are never on their way at the same time: the later line wins, as in the file.

import { setTimeout as sleep } from 'node:timers/promises';
import { JsonReader } from '../../actors/model/json-slices.ts';
import { errorTable, isErrorCode, KvError } from '../../runtime/errors.ts';
import type { HttpClient } from './http-client.ts';
import { ClientError } from './http-exchange.ts';
import { hasLoneSurrogate, jsonKey, type Key, parsedKey, prefixedKey, shownKey } from './keys.ts';

export interface ImportOptions {
  readonly client: HttpClient;
  /** One record each; empty ones are skipped. */
  readonly lines: AsyncIterable<Buffer>;
  /**
   * The member whose text is the key; the value is then the whole line. Undefined: a line is
   * `{"key", "value", "encoding"?, "ttl"?}`, as an export writes it.
   */
  readonly keyField: string | undefined;
  /** Before every key. */
  readonly prefix: Key;
  /** Requests on their way at the same time, 1 to 1,024. */
  readonly parallel: number;
  /** Records of one request, 1 to 1,000. */
  readonly batchRecords: number;
  /** Called with the keys of every batch that the cluster acknowledged, as it comes. */
  readonly onAcked?: (keys: readonly string[]) => void;
}

export interface ImportProblem {
  /** 1 for the first line. */
  readonly line: number;
  readonly key: string;
  readonly detail: string;
}

export interface ImportFigures {
  /** Acknowledged records and the bytes of their lines. */
  records: number;
  bytes: number;
  retries: number;
  /** Not acknowledged, the unknown ones included. */
  failed: number;
  /** Neither acknowledged nor certainly without effect. */
  unknown: number;
  /** The first few of the failed. */
  readonly problems: ImportProblem[];
}

interface Item {
  readonly line: number;
  readonly key: string;
  /** The operation as JSON text. */
  readonly text: Buffer;
  readonly bytes: number;
  isUnknown: boolean;
}

const batchBytesMax = 1024 * 1024;
const problemsShown = 10;
const roundsMax = 12;
const pauseMsFirst = 50;
const pauseMsMax = 2000;

export class Importer {
  readonly figures: ImportFigures = {
    records: 0,
    bytes: 0,
    retries: 0,
    failed: 0,
    unknown: 0,
    problems: [],
  };
  readonly #options: ImportOptions;
  readonly #onTheWay = new Set<Promise<void>>();
  readonly #keys = new Set<string>();
  #batch: Item[] = [];
  #batchBytes = 0;
  #line = 0;
  /** What no request should have thrown: an answer that is none of ours, say. */
  #defect: Error | undefined;

  constructor(options: ImportOptions) {
    this.#options = options;
  }

  /** Ends when every record is acknowledged or given up; throws where the lines cannot be read. */
  async run(): Promise<ImportFigures> {
    const { client, lines, batchRecords } = this.#options;
    try {
      for await (const line of lines) {
        this.#line += 1;
        const item = line.length === 0 ? undefined : this.#read(line);
        if (item === undefined) continue;
        if (this.#keys.has(item.key)) await this.#settleAll();
        this.#keys.add(item.key);
        this.#batch.push(item);
        this.#batchBytes += item.text.length;
        if (this.#batch.length >= batchRecords || this.#batchBytes >= batchBytesMax)
          await this.#dispatch();
      }
    } finally {
      // What was read goes in, also where the rest cannot be read.
      await this.#settleAll();
      this.figures.retries += client.retries;
    }
    return this.figures;
  }

  #read(line: Buffer): Item | undefined {
    const { keyField, prefix } = this.#options;
    try {
      const [key, rest] =
        keyField === undefined
          ? exportedRecord(line)
          : [fieldOf(line, keyField), [Buffer.from('"value":'), line]];
      if (hasLoneSurrogate(key)) throw new Error('key: expected no lone surrogates');
      const full = prefixedKey(prefix, key);
      const text = Buffer.concat([Buffer.from(`{"key":${jsonKey(full)},`), ...rest, close]);
      const bytes = line.length;
      return { line: this.#line, key: shownKey(full), text, bytes, isUnknown: false };
    } catch (error) {
      this.#fail({ line: this.#line, key: '', detail: detailOf(error) });
      return undefined;
    }
  }

  #fail(problem: ImportProblem): void {
    this.figures.failed += 1;
    if (this.figures.problems.length < problemsShown) this.figures.problems.push(problem);
  }

  /** Sends the open batch as soon as there is a place for it. */
  async #dispatch(): Promise<void> {
    const items = this.#batch;
    if (items.length === 0) return;
    this.#batch = [];
    this.#batchBytes = 0;
    while (this.#onTheWay.size >= this.#options.parallel) await Promise.race(this.#onTheWay);
    const ended = (): void => {
      this.#onTheWay.delete(sent);
      for (const { key } of items) this.#keys.delete(key);
    };
    const sent = this.#send(items).then(ended, (error: unknown) => {
      ended();
      this.#defect ??= error instanceof Error ? error : new Error(String(error));
    });
    this.#onTheWay.add(sent);
  }

  async #settleAll(): Promise<void> {
    await this.#dispatch();
    await Promise.all(this.#onTheWay);
    if (this.#defect !== undefined) throw this.#defect;
  }

  /** Until all are acknowledged or given up. */
  async #send(items: readonly Item[]): Promise<void> {
    let left = items;
    for (let round = 1; left.length > 0; round += 1) {
      if (round > 1) {
        this.figures.retries += 1;
        await sleep(Math.random() * Math.min(pauseMsMax, pauseMsFirst * 2 ** round));
      }
      left = await this.#round(left, round === roundsMax);
    }
  }

  /** One request; the items to send again. */
  async #round(items: readonly Item[], isLast: boolean): Promise<readonly Item[]> {
    let errors: readonly (ItemError | undefined)[];
    try {
      errors = await this.#post(items);
    } catch (error) {
      if (!(error instanceof ClientError)) throw error;
      const isRefused = error.code === 'BAD_REQUEST' || error.code === 'TOO_LARGE';
      if (isRefused && items.length > 1) {
        // One record spoils the batch: halves find it.
        const middle = items.length >> 1;
        await this.#send(items.slice(0, middle));
        await this.#send(items.slice(middle));
        return [];
      }
      // The client has retried the request as a whole for as long as it makes sense.
      this.#giveUp(items, error);
      return [];
    }
    return this.#judge(items, errors, isLast);
  }

  #giveUp(items: readonly Item[], { code, detail, isOutcomeUnknown }: ClientError): void {
    for (const item of items) {
      item.isUnknown ||= isOutcomeUnknown;
      this.#drop(item, `${code}: ${detail}`);
    }
  }

  #judge(
    items: readonly Item[],
    errors: readonly (ItemError | undefined)[],
    isLast: boolean,
  ): readonly Item[] {
    const acked: string[] = [];
    const again: Item[] = [];
    items.forEach((item, i) => {
      const error = errors[i];
      if (error === undefined) {
        acked.push(item.key);
        this.figures.records += 1;
        this.figures.bytes += item.bytes;
        return;
      }
      const row = isErrorCode(error.code) ? errorTable[error.code] : undefined;
      item.isUnknown ||= row?.effect !== 'none';
      if (isLast || row?.retry === 'never') this.#drop(item, `${error.code}: ${error.detail}`);
      else again.push(item);
    });
    if (acked.length > 0) this.#options.onAcked?.(acked);
    return again;
  }

  #drop({ line, key, isUnknown }: Item, detail: string): void {
    if (isUnknown) this.figures.unknown += 1;
    this.#fail({ line, key, detail });
  }

  /** What became of each item: undefined for the acknowledged. */
  async #post(items: readonly Item[]): Promise<readonly (ItemError | undefined)[]> {
    const parts: Buffer[] = [];
    items.forEach(({ text }, i) => parts.push(i === 0 ? open : between, text));
    parts.push(end);
    const { body } = await this.#options.client.call({
      method: 'POST',
      path: '/api/v1/batch/put',
      headers: { 'content-type': 'application/json' },
      body: Buffer.concat(parts),
      // A load writes at least once: what is loaded may be loaded again.
      isIdempotent: true,
      isWrite: true,
    });
    const { results } = JSON.parse(body.toString()) as { results: { error?: ItemError }[] };
    if (results.length !== items.length)
      throw new ClientError('BUG', 200, 'the answer has another length than the batch', true);
    return results.map(({ error }) => error);
  }
}

interface ItemError {
  readonly code: string;
  readonly detail: string;
}

const open = Buffer.from('{"operations":[');
const between = Buffer.from(',');
const end = Buffer.from(']}');
const close = Buffer.from('}');

function detailOf(error: unknown): string {
  if (error instanceof KvError) return String(error.fields['detail']);
  return error instanceof Error ? error.message : String(error);
}

/** The key that a line's member holds. */
function fieldOf(line: Buffer, field: string): string {
  const record = JSON.parse(line.toString()) as unknown;
  const isObject = typeof record === 'object' && record !== null && Object.hasOwn(record, field);
  const key = isObject ? (record as Record<string, unknown>)[field] : undefined;
  if (typeof key === 'string' && key !== '') return key;
  if (Number.isSafeInteger(key)) return String(key);
  throw new Error(`no text or whole number under "${field}"`);
}

function keyOf(reader: JsonReader): Key {
  const key = parsedKey(reader.value());
  if (key === undefined) throw new Error('key: expected text, or {"base64": "..."} with its bytes');
  return key;
}

/** Key and the other members of a line that an export wrote, as they go into an operation. */
function exportedRecord(line: Buffer): readonly [Key, readonly Buffer[]] {
  const reader = new JsonReader(line, 'line');
  const parts: Buffer[] = [];
  let key: Key | undefined;
  reader.object((name) => {
    if (name === 'key') {
      key = keyOf(reader);
      return;
    }
    const { start, end: stop } = reader.skip();
    if (name !== 'value' && name !== 'encoding' && name !== 'ttl')
      throw new Error(`unknown member "${name}": name the key's member with --key-field`);
    parts.push(Buffer.from(`${parts.length === 0 ? '' : ','}"${name}":`));
    parts.push(line.subarray(start, stop));
  });
  reader.end();
  if (key === undefined) throw new Error('no "key": name the key\'s member with --key-field');
  return [key, parts];
}
