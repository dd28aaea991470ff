// A cluster of tiny actors for tests of the simulator itself: a ledger that writes a counter to
// its disk before it answers, and a rambler that sends numbers around. The wire format is JSON.

import { actor, type Context, type Deferred, type Later, refTo } from '../../runtime/actor.ts';
import { utf8 } from '../../runtime/bytes.ts';
import type { Envelope } from '../../runtime/envelope.ts';
import type { DiskFile } from '../../runtime/environment.ts';
import { ask, type Handlers, protocol, type Tell, tell } from '../../runtime/protocol.ts';
import type { ActorKind } from '../../runtime/actor.ts';
import { type ActorSpec, stopNode } from '../../runtime/supervisor.ts';
import type { NodeProgram, SimCodec } from '../../sim/cluster.ts';
import type { NetworkOptions } from '../../sim/sim-network.ts';

export const Ledger = protocol('ledger', 240, {
  /** Adds one line; answers with their number when the line is durable. */
  add: ask<object, { readonly lines: number }>(1),
});
export type Ledger = typeof Ledger.messages;

export const Rambler = protocol('rambler', 241, {
  pass: tell<{ readonly hops: number }>(1),
  count: ask<object, { readonly heard: number }>(2),
});
export type Rambler = typeof Rambler.messages;

export const lineBytes = 100;

class LedgerActor implements Handlers<Ledger> {
  readonly #ctx: Context<object, 'disk'>;
  #file: DiskFile | undefined;
  #lines = 0;

  constructor(ctx: Context<object, 'disk'>) {
    this.#ctx = ctx;
  }

  start(): Later<void> {
    const { disk, session } = this.#ctx;
    return session(async () => {
      if (disk.exists('ledger')) this.#file = disk.open('ledger', 'modify');
      else {
        this.#file = disk.open('ledger', 'create');
        await disk.syncDirectory('');
      }
      this.#lines = Math.floor(this.#file.size() / lineBytes);
    });
  }

  add(): Later<{ readonly lines: number }> {
    const later: Deferred<{ readonly lines: number }> = this.#ctx.later();
    const line = new Uint8Array(lineBytes).fill(this.#lines % 251);
    this.#file?.write(line, this.#lines * lineBytes);
    this.#lines += 1;
    const lines = this.#lines;
    this.#file?.sync(() => later.resolve({ lines }));
    return later;
  }
}

interface Own {
  readonly round: Tell<object>;
}

class RamblerActor implements Handlers<Rambler>, Handlers<Own> {
  readonly #ctx: Context<Own>;
  readonly #names: readonly string[];
  #heard = 0;

  constructor(ctx: Context<Own>, { names }: { readonly names: readonly string[] }) {
    this.#ctx = ctx;
    this.#names = names;
  }

  start(): void {
    this.#ctx.toSelf('round', {});
  }

  round(): void {
    this.#ctx.after(100, 'round', {});
    this.pass({ hops: 3 });
  }

  pass({ hops }: { readonly hops: number }): void {
    this.#heard += 1;
    if (hops === 0) return;
    const to = this.#names[this.#ctx.random.int(this.#names.length)] as string;
    this.#ctx.tell(refTo(Rambler, to), 'pass', { hops: hops - 1 });
  }

  count(): { readonly heard: number } {
    return { heard: this.#heard };
  }
}

export const ledger = actor({
  protocol: Ledger,
  needs: ['disk'],
  create: (ctx: Context<object, 'disk'>) => new LedgerActor(ctx),
});

export const rambler = actor({
  protocol: Rambler,
  create: (ctx: Context<Own>, options: { readonly names: readonly string[] }) =>
    new RamblerActor(ctx, options),
});

export function specOf(kind: unknown, options: unknown = {}): ActorSpec {
  return {
    kind: kind as ActorKind,
    options,
    shard: 0,
    mailboxCapacity: 100,
    onCrash: stopNode(),
  };
}

export function smallProgram(actors: readonly ActorSpec[]): NodeProgram {
  return {
    protocols: [Ledger, Rambler],
    arenas: [],
    actorsOf: () => Promise.resolve(actors),
  };
}

export const quickNetwork: NetworkOptions = {
  minMs: 1,
  meanMs: 2,
  hasSlowTail: false,
  queueLengthMax: 100,
  keepAliveMs: 2_000,
};

const descriptors = new Map(
  [Ledger, Rambler].map(({ name, descriptors: table }) => [name, table] as const),
);

/** Messages as JSON: enough for plain bodies. */
export const jsonCodec: SimCodec = {
  encode: (envelope, nowMs) => {
    const deadlineMs = envelope.deadlineMs - nowMs;
    const sent = { ...envelope, via: undefined, descriptor: undefined, deadlineMs };
    return utf8.encode(JSON.stringify(sent));
  },
  decode: (bytes, nowMs, via) => {
    const rest = JSON.parse(utf8.decode(bytes)) as Envelope;
    const leftMs = (rest.deadlineMs as number | null) ?? Infinity;
    const descriptor = descriptors.get(rest.actor)?.get(rest.name);
    return { ...rest, descriptor, via, deadlineMs: nowMs + leftMs };
  },
  transcode: (_descriptor, _isReply, body) => JSON.parse(JSON.stringify(body)) as unknown,
};

const noCodec = {
  compress: (bytes: Uint8Array): Uint8Array => bytes,
  decompress: (block: Uint8Array): Uint8Array => block,
};
export const noCodecs = { lz4: noCodec, zstd: noCodec };
