// Commands that write several keys as one: RENAME, RENAMENX, COPY, MSETNX. Their keys share a hash
// tag, so one decision does it (docs/decisions/0021).

import { equalBytes, latin1 } from '../../runtime/bytes.ts';
import { valueTypes } from '../model/record.ts';
import {
  plainSerial,
  type SerialCondition,
  type SerialRequest,
  type TransactionCommand,
} from '../replication/protocol.ts';
import { integerOf, type RespCall, wordOf } from './resp-call.ts';
import { fail, refusalOf } from './resp-keys.ts';
import { errorReply, notInteger, ok, type Reply, syntaxError } from './resp-replies.ts';
import type { RespHandler, RespHandlers } from './resp-services.ts';

const exists: SerialCondition = { kind: 'exists' };
const absent: SerialCondition = { kind: 'absent' };
const noSuchKey = errorReply('ERR no such key');

type Terms = Pick<SerialRequest, 'key' | 'verb'> & Partial<SerialRequest>;

const operation = ({ namespace }: RespCall, terms: Terms): SerialRequest => ({
  ...{ ...plainSerial, valueType: valueTypes.bytes, namespace },
  ...terms,
});

/** The source exists; and where `isFree`, the target does not. */
function conditionsOf(
  source: Uint8Array,
  target: Uint8Array,
  isFree: boolean,
): TransactionCommand['conditions'] {
  const there = { key: source, condition: exists };
  return isFree ? [there, { key: target, condition: absent }] : [there];
}

/** `done` and `taken`: the answers where it was renamed, and where the new name exists. */
const rename =
  (done: Reply, taken: Reply, isFree: boolean): RespHandler =>
  (call, { atomic }) => {
    const source = call.arg(1);
    const target = call.arg(2);
    const operations = equalBytes(source, target)
      ? [operation(call, { key: source, verb: 'read' })]
      : [
          operation(call, { key: target, verb: 'copy', from: source }),
          operation(call, { key: source, verb: 'delete' }),
        ];
    const conditions = conditionsOf(source, target, isFree);
    atomic(call, { conditions, operations }, ({ unmet }) => {
      if (unmet === undefined) call.answer(done);
      else call.answer(unmet === 0 ? noSuchKey : taken);
    });
  };

/** COPY source target [DB n] [REPLACE]. */
const copy: RespHandler = (call, { atomic }) => {
  let replaces = false;
  for (let at = 3; at < call.args.length; at += 1) {
    const word = wordOf(call.arg(at));
    const value = call.args[at + 1];
    if (word === 'replace') replaces = true;
    else if (word === 'db' && value !== undefined) {
      const index = integerOf(value);
      if (index === undefined) return call.answer(notInteger);
      if (index !== call.namespace)
        return call.answer(errorReply('ERR COPY works within one namespace'));
      at += 1;
    } else return call.answer(syntaxError);
  }
  const source = call.arg(1);
  const target = call.arg(2);
  if (equalBytes(source, target))
    return call.answer(errorReply('ERR source and destination objects are the same'));
  const operations = [operation(call, { key: target, verb: 'copy', from: source })];
  const conditions = conditionsOf(source, target, !replaces);
  atomic(call, { conditions, operations }, ({ isApplied }) => call.answer(isApplied ? 1 : 0));
};

const msetnx: RespHandler = (call, { atomic, settings }) => {
  const { args } = call;
  if (args.length % 2 === 0)
    return call.answer(errorReply(`ERR wrong number of arguments for '${call.spec.name}' command`));
  // The last value of a key that is named twice counts.
  const values = new Map<string, SerialRequest>();
  for (let at = 1; at < args.length; at += 2) {
    const [key, value] = [call.arg(at), call.arg(at + 1)];
    const refusal = refusalOf(settings.limits, key, value);
    if (refusal !== undefined) return fail(call, refusal);
    values.set(latin1(key), operation(call, { key, value, verb: 'write' }));
  }
  const operations = [...values.values()];
  const conditions = operations.map(({ key }) => ({ key, condition: absent }));
  atomic(call, { conditions, operations }, ({ isApplied }) => call.answer(isApplied ? 1 : 0));
};

export const copyHandlers: RespHandlers = {
  rename: rename(ok, ok, false),
  renamenx: rename(1, 0, true),
  copy,
  msetnx,
};
