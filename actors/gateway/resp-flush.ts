// FLUSHDB and FLUSHALL: deletes keys page by page, as a client would with SCAN and DEL. So it is not
// one moment: keys that are written meanwhile may stay. It ends with its deadline or with the first
// failure; where keys are left then, the error says how many are gone, and the same command goes on
// with the others. Every end is written into the audit log.

import type { Done } from '../../runtime/actor.ts';
import { noBytes } from '../../runtime/bytes.ts';
import { type Failure, failure } from '../../runtime/errors.ts';
import { recordUserKey } from '../model/record.ts';
import type { ScanReply } from '../replication/protocol.ts';
import { finalFailure } from './attempts.ts';
import { type RespCall, wordOf } from './resp-call.ts';
import { pageLevelOf } from './resp-generic.ts';
import { fail, removal } from './resp-keys.ts';
import { ok, syntaxError } from './resp-replies.ts';
import type { RespHandler, RespHandlers, RespServices } from './resp-services.ts';

const pageKeys = 500;
const pageTimeoutMs = 10_000;
/** Left for the answer. */
const marginMs = 1_000;

/** ASYNC is taken and waits all the same: an answer says that the keys are gone. */
function isPlain(call: RespCall): boolean {
  const [, mode] = call.args;
  if (mode === undefined) return true;
  return call.args.length === 2 && ['sync', 'async'].includes(wordOf(mode));
}

const flushdb: RespHandler = (call, services) => {
  if (!isPlain(call)) return call.answer(syntaxError);
  flush(call, services, [call.namespace]);
};

/** All namespaces that SELECT takes. */
const flushall: RespHandler = (call, services) => {
  if (!isPlain(call)) return call.answer(syntaxError);
  const { namespaces } = services.guard.known.document;
  const plain = namespaces.filter(({ conflicts }) => conflicts === 'lww');
  flush(
    call,
    services,
    plain.map(({ id }) => id),
  );
};

function flush(call: RespCall, services: RespServices, namespaces: readonly number[]): void {
  const { keys, ctx } = services;
  let gone = 0;
  const end = (problem?: Failure): void => ended(call, services, gone, problem);
  const step = (index: number, after: Uint8Array | undefined): void => {
    const namespace = namespaces[index];
    if (namespace === undefined) return end();
    if (call.deadlineMs - ctx.clock.monotonicMs() < marginMs) return end(failure('TIMEOUT'));
    page(call, services, { namespace, after }, (problem, reply) => {
      if (reply === undefined) return end(finalFailure('read', problem ?? failure('BUG')));
      const found = reply.records.map((record) => recordUserKey(record).slice());
      const place = { namespace, level: call.writeLevel };
      keys.writeAllTo(call, place, found.map(removal), ({ problem: failed, count }) => {
        gone += count;
        if (failed !== undefined) return end(failed);
        if (reply.next === undefined) step(index + 1, undefined);
        else step(index, reply.next);
      });
    });
  };
  step(0, undefined);
}

/**
 * The one end of a flush: whatever it came to is written down, and where keys are gone no failure is
 * told that says that nothing has happened.
 */
function ended(
  call: RespCall,
  { access }: RespServices,
  gone: number,
  problem: Failure | undefined,
): void {
  const final = problem === undefined || gone === 0 ? problem : partial(gone, problem);
  access?.happened(call, final?.code ?? 'done');
  if (final === undefined) call.answer(ok);
  else fail(call, final);
}

const partial = (gone: number, { code }: Failure): Failure =>
  failure('UNKNOWN_OUTCOME', { gone, detail: `${gone} keys are gone, then ${code}: again` });

function page(
  call: RespCall,
  services: RespServices,
  { namespace, after }: { readonly namespace: number; readonly after: Uint8Array | undefined },
  done: Done<ScanReply>,
): void {
  const { ctx, anyCoordinator, guard } = services;
  const level = pageLevelOf(call, services);
  guard.admit(namespace, (refusal) => {
    if (refusal !== undefined) return done(refusal, undefined);
    const leftMs = Math.min(pageTimeoutMs, call.deadlineMs - ctx.clock.monotonicMs());
    const request = { namespace, prefix: noBytes, after, limit: pageKeys };
    ctx.ask(anyCoordinator(), 'scan', { ...request, level }, leftMs, done);
  });
}

export const flushHandlers: RespHandlers = { flushdb, flushall };
