// Commands that look around: a key by chance (RANDOMKEY), and how a key is read (KV.EXPLAIN, the
// figures that REST gives for X-Explain).

import { latin1, noBytes } from '../../runtime/bytes.ts';
import { failure } from '../../runtime/errors.ts';
import { recordKey, recordUserKey } from '../model/record.ts';
import { scanPage } from './resp-generic.ts';
import { fail, refusalOf } from './resp-keys.ts';
import type { RespHandler, RespHandlers } from './resp-services.ts';

/** Keys that one choice is made among. */
const pageMax = 1000;

/**
 * One of the next 1,000 keys in byte order behind a place that each choice moves on, from the end to
 * the beginning: of up to so many keys each is as likely as any other, of more every one has its turn.
 */
const randomkey: RespHandler = (call, services) => {
  const { places, ctx } = services;
  const { namespace } = call;
  const choose = (records: readonly Uint8Array[]): void => {
    const found = records[ctx.random.int(Math.max(1, records.length))];
    if (found === undefined) return call.answer(null);
    const key = recordUserKey(found).slice();
    places.set(namespace, key);
    call.answer(key);
  };
  const after = places.get(namespace);
  scanPage(call, services, { prefix: noBytes, after, limit: pageMax }, ({ records }) => {
    const left = pageMax - records.length;
    if (left === 0 || after === undefined) return choose(records);
    scanPage(call, services, { prefix: noBytes, after: undefined, limit: left }, (first) => {
      // Both pages have them where there are few.
      const known = new Set(records.map(nameOf));
      choose([...records, ...first.records.filter((record) => !known.has(nameOf(record)))]);
    });
  });
};

const nameOf = (record: Uint8Array): string => latin1(recordKey(record));

/** What X-Explain says over HTTP, as JSON. */
const explain: RespHandler = (call, { calls, settings }) => {
  const { namespace, readLevel: level } = call;
  const key = call.arg(1);
  const refusal = refusalOf(settings.limits, key);
  if (refusal !== undefined) return fail(call, refusal);
  const body = { namespace, key, level, explain: true };
  calls.run('read', body, call.deadlineMs, (problem, reply) => {
    if (reply === undefined) fail(call, problem ?? failure('BUG'));
    else call.answer(reply.explanation ?? null);
  });
};

export const lookHandlers: RespHandlers = { randomkey, 'kv.explain': explain };
