// The order of pipelined commands, by itself: whatever the commands are and whichever of those that
// run ends first, a key is never read or written while an earlier command of its connection that
// conflicts is under way, and answers come in the order of the commands.

import { expect } from 'chai';
import fc from 'fast-check';
import { utf8 } from '../../runtime/bytes.ts';
import type { RespAnswers, RespCommand } from '../../actors/gateway/protocol.ts';
import type { RespCall } from '../../actors/gateway/resp-call.ts';
import { keysOf } from '../../actors/gateway/resp-commands.ts';
import { RespConnection } from '../../actors/gateway/resp-connection.ts';
import { type RespBatchRun, RespRunner } from '../../actors/gateway/resp-runner.ts';

const commandOf = (...words: readonly string[]): RespCommand => ({
  args: words.map((word) => utf8.encode(word)),
  isTooLarge: false,
});

const aKey = fc.constantFrom('a', 'b', 'c');
const aCommand = fc.oneof(
  aKey.map((key) => commandOf('GET', key)),
  aKey.map((key) => commandOf('SET', key, 'v')),
  fc.array(aKey, { minLength: 1, maxLength: 3 }).map((keys) => commandOf('MGET', ...keys)),
  fc
    .array(aKey, { minLength: 1, maxLength: 3 })
    .map((keys) => commandOf('MSET', ...keys.flatMap((key) => [key, 'v']))),
  fc.constant(commandOf('PING')),
  fc.constant(commandOf('SCAN', '0')),
);

const keysOfCall = ({ spec, args }: RespCall): string[] => keysOf(spec, args).map(utf8.decode);

/** All commands of the batch so far. */
const callsOf = ({ batch }: RespCall): readonly RespCall[] =>
  (batch as unknown as Pick<RespBatchRun, 'calls'>).calls;

/** Whether `later` must wait for `earlier`. */
function conflicts(earlier: RespCall, later: RespCall): boolean {
  if (earlier.spec.isBarrier || later.spec.isBarrier) return true;
  if (earlier.spec.verb !== 'write' && later.spec.verb !== 'write') return false;
  const held = new Set(keysOfCall(earlier));
  return keysOfCall(later).some((key) => held.has(key));
}

/** Runs the commands, ends them in the order that `choices` says, and checks each start. */
function play(commands: readonly RespCommand[], choices: readonly number[]): string {
  const running: RespCall[] = [];
  const started: RespCall[] = [];
  let answers: RespAnswers | undefined;
  const wakes = { areDue: false };
  const runner = new RespRunner({
    start: (call) => {
      for (const other of running) expect(conflicts(other, call)).to.equal(false);
      for (const earlier of callsOf(call)) {
        if (earlier === call) break;
        if (conflicts(earlier, call)) expect(started).to.include(earlier);
      }
      started.push(call);
      running.push(call);
    },
    nowMs: () => 0,
    isLoggedIn: () => true,
    timeouts: { readTimeoutMs: 1, writeTimeoutMs: 1, scanTimeoutMs: 1 },
    wakeSoon: () => (wakes.areDue = true),
    onEnded: () => undefined,
    onIdle: () => undefined,
  });
  const defaults = { namespace: 0, readLevel: 'ONE', writeLevel: 'ONE' } as const;
  const connection = new RespConnection({ connection: 1, remote: '', local: '' }, defaults, 0);
  const deferred = { resolve: (reply: RespAnswers) => (answers = reply) };
  runner.run(connection, commands, deferred as never);
  for (let step = 0; running.length > 0; step += 1) {
    const at = (choices[step % choices.length] ?? 0) % running.length;
    const [call] = running.splice(at, 1);
    call?.answer(callsOf(call).indexOf(call));
    if (wakes.areDue) runner.wake();
    wakes.areDue = false;
  }
  expect(started).to.have.length(commands.length);
  expect([answers?.count, runner.open, runner.inFlight]).to.deep.equal([commands.length, 0, 0]);
  return utf8.decode(answers?.bytes ?? new Uint8Array(0));
}

describe('resp order', () => {
  it('resp order: conflicting commands keep their order, all others overlap, answers stay in line', () => {
    fc.assert(
      fc.property(
        fc.array(aCommand, { minLength: 1, maxLength: 20 }),
        fc.array(fc.nat(100), { minLength: 1, maxLength: 30 }),
        (commands, choices) => {
          expect(play(commands, choices)).to.equal(commands.map((_, i) => `:${i}\r\n`).join(''));
        },
      ),
      { numRuns: 500 },
    );
  });
});
