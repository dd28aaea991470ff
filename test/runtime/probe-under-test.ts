// An actor that does what a test hands to it, for the tests of the kernel.

import { actor, type Call, type Context, type Later, refTo } from '../../runtime/actor.ts';
import type { Envelope } from '../../runtime/envelope.ts';
import { BugError } from '../../runtime/errors.ts';
import { ask, type Handlers, protocol, type Tell, tell } from '../../runtime/protocol.ts';
import { restart } from '../../runtime/supervisor.ts';
import { Kit } from '../kit.ts';

export const Probe = protocol('probe', 200, {
  note: tell<{ readonly text: string }>(1),
  urgent: tell<{ readonly text: string }>(2, { lane: 'control' }),
  slow: tell<{ readonly text: string }>(3, { lane: 'background' }),
  get: ask<{ readonly text: string }, { readonly text: string }>(4, { isPeek: true }),
  hold: ask<{ readonly text: string }, { readonly text: string }>(5),
});
export type Probe = typeof Probe.messages;

export const Mute = protocol('mute', 201, { unheard: tell<object>(1) });

export interface Own {
  readonly mine: Tell<{ readonly text: string }>;
}

export type Ctx = Context<Own>;
export type Reply = { readonly text: string };

/** What a test puts into a probe; what it leaves out does the obvious. */
export interface Script {
  readonly start?: (ctx: Ctx) => void | Later<void>;
  readonly drain?: (ctx: Ctx) => void | Later<void>;
  readonly note?: (ctx: Ctx, text: string) => void | Later<void>;
  readonly get?: (ctx: Ctx, text: string, call: Call) => Reply | Later<Reply>;
  readonly mine?: (ctx: Ctx, text: string) => void | Later<void>;
}

/** Everything that any instance of one probe heard, in order. */
export type Heard = string[];

export class ProbeActor implements Handlers<Probe>, Handlers<Own> {
  readonly #ctx: Ctx;
  readonly #script: Script;
  readonly #heard: Heard;

  constructor(ctx: Ctx, { script, heard }: { script: Script; heard: Heard }) {
    this.#ctx = ctx;
    this.#script = script;
    this.#heard = heard;
  }

  start(): void | Later<void> {
    this.#heard.push('start');
    return this.#script.start?.(this.#ctx);
  }

  drain(): void | Later<void> {
    this.#heard.push('drain');
    return this.#script.drain?.(this.#ctx);
  }

  note({ text }: Reply): void | Later<void> {
    this.#heard.push(text);
    return this.#script.note?.(this.#ctx, text);
  }

  urgent({ text }: Reply): void {
    this.#heard.push(text);
  }

  slow({ text }: Reply): void {
    this.#heard.push(text);
  }

  get({ text }: Reply, call: Call): Reply | Later<Reply> {
    this.#heard.push(text);
    return this.#script.get?.(this.#ctx, text, call) ?? { text };
  }

  hold({ text }: Reply): Reply {
    return { text };
  }

  mine({ text }: Reply): void | Later<void> {
    this.#heard.push(text);
    return this.#script.mine?.(this.#ctx, text);
  }
}

export const probe = actor({
  protocol: Probe,
  create: (ctx: Context<Own>, options: { script: Script; heard: Heard }) =>
    new ProbeActor(ctx, options),
});

export const here = refTo(Probe, 'n1');
export const second = refTo(Probe, 'n1', 1);
export const remote = refTo(Probe, 'n2');
export const twice = restart({ fromMs: 100, toMs: 400, limit: 2, withinMs: 60_000 });
export const bug = (): never => {
  throw new BugError('broken');
};

export function kit(): Kit {
  return new Kit([Probe, Mute]);
}

export function fromRemote({
  via,
  text,
  shard = 0,
}: {
  via: Envelope['via'];
  text: string;
  shard?: number;
}): Envelope {
  return {
    kind: 'ask',
    node: 'n1',
    actor: 'probe',
    shard,
    name: 'get',
    descriptor: Probe.descriptors.get('get'),
    from: 'n2',
    askId: 5,
    deadlineMs: Infinity,
    via,
    trace: '',
    body: { text },
    failure: undefined,
  };
}
