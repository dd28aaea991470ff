// What the tests of links share: a protocol with every kind of message, an actor that records what
// it hears, a host on the machine's own clock, and a wait that ends with a condition and not with
// a time.

import { actor, type Ref, refTo } from '../runtime/actor.ts';
import type { Envelope } from '../runtime/envelope.ts';
import type { Capabilities, Host, Log, Lz4 } from '../runtime/environment.ts';
import { BugError, type Failure, KvError } from '../runtime/errors.ts';
import { loadLz4Module } from '../runtime/host/lz4-module.ts';
import { createNodeHost } from '../runtime/host/node-host.ts';
import type { Kernel } from '../runtime/kernel.ts';
import { createLz4 } from '../runtime/lz4.ts';
import {
  ask,
  type AskNames,
  type BodyOf,
  type Descriptor,
  protocol,
  type ReplyOf,
  tell,
} from '../runtime/protocol.ts';
import { stopNode } from '../runtime/supervisor.ts';
import { Codec } from '../transport/codec.ts';
import type { LogEntry } from './kit.ts';

export interface Sample {
  readonly number: number;
  readonly bytes: Uint8Array;
}

export const Echo = protocol('echo', 200, {
  /** Answers what it gets; both ways in a fixed layout. */
  echo: ask<Sample, Sample>(1, {
    layout: { number: 'u53', bytes: 'bytes' },
    replyLayout: { number: 'u53', bytes: 'bytes' },
  }),
  /** The same as msgpack. */
  shout: ask<{ readonly body: unknown }, { readonly body: unknown }>(2),
  /** Fails with CONFLICT and fields. */
  refuse: ask<object, object>(3),
  /** Is never answered. */
  hold: ask<{ readonly number: number }, object>(4, { lane: 'control' }),
  note: tell<{ readonly number: number }>(5, { layout: { number: 'u53' } }),
});
export type Echo = typeof Echo.messages;

/** What an echo actor heard, for a test to look at. */
export class EchoState {
  readonly notes: number[] = [];
  readonly echoes: Sample[] = [];
  readonly held: number[] = [];
  /** Lets an actor that was made with `isSlow` begin. */
  begin: () => void = () => undefined;
  readonly isSlow: boolean;
  /** False: echoes are not recorded, for long runs. */
  readonly keepsEchoes: boolean;

  constructor({ isSlow = false, keepsEchoes = true } = {}) {
    this.isSlow = isSlow;
    this.keepsEchoes = keepsEchoes;
  }
}

const echo = actor<Echo, EchoState, object>({
  protocol: Echo,
  create: (ctx, state) => ({
    start: () => {
      if (!state.isSlow) return;
      const begun = ctx.later<void>();
      state.begin = () => begun.resolve(undefined);
      return begun;
    },
    echo: (body) => {
      if (state.keepsEchoes) state.echoes.push(body);
      return body;
    },
    shout: ({ body }) => ({ body }),
    refuse: () => {
      throw new KvError('CONFLICT', { version: 7, detail: 'no', live: true });
    },
    hold: ({ number }) => {
      state.held.push(number);
      return ctx.later<object>();
    },
    note: ({ number }) => {
      state.notes.push(number);
    },
  }),
});

/** Starts an echo actor; do not wait for the promise of a slow one. */
export function spawnEcho(
  kernel: Kernel,
  state: EchoState,
  { shard = 0, mailboxCapacity = 20_000 } = {},
): Promise<void> {
  return kernel.spawn({
    kind: echo as never,
    options: state,
    shard,
    mailboxCapacity,
    onCrash: stopNode(),
  });
}

export const echoCodec = (): Codec => new Codec([Echo]);

export function echoDescriptor(name: keyof Echo): Descriptor {
  const descriptor = Echo.descriptors.get(name);
  if (descriptor === undefined) throw new BugError(`no message ${name}`);
  return descriptor;
}

/** An envelope of the echo protocol from node a to node b. */
export function echoEnvelope(
  name: keyof Echo,
  body: unknown,
  how: Partial<Envelope> = {},
): Envelope {
  const descriptor = echoDescriptor(name);
  return {
    kind: descriptor.kind,
    node: 'b',
    actor: 'echo',
    shard: 0,
    name,
    descriptor,
    from: 'a',
    askId: descriptor.kind === 'ask' ? 1 : 0,
    deadlineMs: Infinity,
    via: undefined,
    trace: '',
    body,
    failure: undefined,
    ...how,
  };
}

/** How an ask ended: one of the two. */
export interface Ended<Reply> {
  readonly failure: Failure | undefined;
  readonly reply: Reply | undefined;
}

export function asked<K extends AskNames<Echo>>(
  kernel: Kernel,
  to: Ref<Echo> | string,
  name: K,
  body: BodyOf<Echo[K]>,
  timeoutMs = 10_000,
): Promise<Ended<ReplyOf<Echo[K]>>> {
  const ref = typeof to === 'string' ? refTo(Echo, to) : to;
  return new Promise((resolve) => {
    kernel.ask<Echo, K>(ref, name, body, timeoutMs, (failure, reply) =>
      resolve({ failure, reply }),
    );
  });
}

/** A vain wait fails, so that the runner can go on. */
const vainMs = 15_000;

/** Lets the event loop turn until `condition` holds. */
export async function until(condition: () => boolean): Promise<void> {
  const endMs = performance.now() + vainMs;
  while (!condition()) {
    if (performance.now() > endMs) throw new BugError(`never came true: ${String(condition)}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

export function recordingLog(entries: LogEntry[]): Log {
  const at =
    (level: LogEntry['level']): Log['info'] =>
    (event, fields = {}) =>
      void entries.push({ level, event, fields });
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

/**
 * The machine's clock and timers; a request to stop the node is an error. The runner does not wait
 * for timers that are left over.
 */
export function realHost(entries: LogEntry[] = []): Host {
  const host = createNodeHost({
    log: recordingLog(entries),
    capabilities: {} as Capabilities,
    onStop: (reason) => {
      throw new BugError(reason);
    },
  });
  const after: Host['timers']['after'] = (delayMs, fire) => {
    const timer = setTimeout(fire, Math.ceil(delayMs)).unref();
    return { cancel: () => clearTimeout(timer) };
  };
  return { ...host, timers: { ...host.timers, after } };
}

export const realLz4 = (): Lz4 => createLz4(loadLz4Module());

/** Bytes that no compression shrinks, the same each time. */
export function noise(length: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = seed;
  for (let i = 0; i < length; i += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}
