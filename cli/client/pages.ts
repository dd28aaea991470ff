// Pages of keys as the list and scan paths answer them, read without decoding the values: what goes
// to a file or a terminal is the text that was stored.

import { JsonReader } from '../../actors/model/json-slices.ts';
import type { HttpClient } from './http-client.ts';
import { type Key, type NamedKey, namedKey, parsedKey, prefixQuery } from './keys.ts';

/** One key of a page. */
export interface PageItem extends NamedKey {
  /** The key as JSON text. */
  readonly keyText: string;
  /** JSON text, or with `encoding` a JSON string of base64. Absent where values were not asked. */
  readonly value: Buffer | undefined;
  readonly encoding: string | undefined;
  readonly version: number | undefined;
  /** Whole seconds; absent: never expires. */
  readonly ttlRemaining: number | undefined;
}

export interface PageQuery {
  readonly path: '/api/v1/keys' | '/api/v1/scan';
  readonly prefix?: Key;
  /** Keys on a page, 1 to 1,000. */
  readonly pageRows: number;
  readonly withValues: boolean;
}

/** All pages, one after the other: what is not taken is not asked for. */
export async function* readPages(
  client: HttpClient,
  { path, prefix = '', pageRows, withValues }: PageQuery,
): AsyncGenerator<readonly PageItem[]> {
  const rows = path === '/api/v1/keys' ? 'limit' : 'count';
  let cursor: string | null = '';
  while (cursor !== null) {
    const query = new URLSearchParams({
      ...{ [rows]: String(pageRows), values: String(withValues) },
      ...prefixQuery(prefix),
    });
    if (cursor !== '') query.set('cursor', cursor);
    const { body } = await client.call({
      method: 'GET',
      path: `${path}?${query.toString()}`,
      isIdempotent: true,
      isWrite: false,
    });
    const page: Page = parsePage(body);
    yield page.items;
    cursor = page.cursor;
  }
}

interface Page {
  readonly items: readonly PageItem[];
  readonly cursor: string | null;
}

export function parsePage(body: Buffer): Page {
  const reader = new JsonReader(body, 'page');
  let keys: readonly PageItem[] = [];
  let items: readonly PageItem[] | undefined;
  let cursor: string | null = null;
  reader.object((name) => {
    if (name === 'keys') keys = (reader.value() as unknown[]).map(bareItem);
    else if (name === 'items') items = parseItems(reader, body);
    else if (name === 'cursor' || name === 'next_cursor') cursor = reader.value() as string | null;
    else reader.skip();
  });
  return { items: items ?? keys, cursor };
}

function bareItem(key: unknown): PageItem {
  return {
    ...keyOf(key),
    value: undefined,
    encoding: undefined,
    version: undefined,
    ttlRemaining: undefined,
  };
}

/** A key that is no UTF-8 comes as an object with its base64; it is shown as that. */
function keyOf(value: unknown): NamedKey & Pick<PageItem, 'keyText'> {
  const keyText = JSON.stringify(value);
  return { ...namedKey(parsedKey(value) ?? keyText), keyText };
}

function parseItems(reader: JsonReader, body: Buffer): PageItem[] {
  const items: PageItem[] = [];
  reader.array(() => {
    const members: Record<string, unknown> = {};
    let value: Buffer | undefined;
    reader.object((name) => {
      if (name === 'value') {
        const { start, end } = reader.skip();
        value = body.subarray(start, end);
      } else members[name] = reader.value();
    });
    items.push({
      ...keyOf(members['key']),
      value,
      encoding: members['encoding'] as string | undefined,
      version: members['version'] as number | undefined,
      ttlRemaining: members['ttl_remaining'] as number | undefined,
    });
  });
  return items;
}
