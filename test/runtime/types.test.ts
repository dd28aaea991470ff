// What the compiler refuses (style 1.4): each line below that must not compile says so, and the
// build fails when one of them does compile. The file runs nothing but the one check that it was
// compiled at all.

import { expect } from 'chai';
import { actor, type Context, type Later, type Ref } from '../../runtime/actor.ts';
import { ask, type Handlers, protocol, type Tell, tell } from '../../runtime/protocol.ts';

const Door = protocol('door', 210, {
  open: tell<{ readonly how: string }>(1),
  look: ask<{ readonly at: number }, { readonly seen: string }>(2),
});
type Door = typeof Door.messages;

interface Own {
  readonly tick: Tell<{ readonly count: number }>;
}

type Ctx = Context<Own>;

// @ts-expect-error: a message without a handler
class Forgetful implements Handlers<Door> {
  open(): void {}
}

class Asynchronous implements Handlers<Door> {
  open(): void {}
  // @ts-expect-error: an async handler
  async look(): Promise<{ seen: string }> {
    return Promise.resolve({ seen: '' });
  }
}

class WrongReply implements Handlers<Door> {
  open(): void {}
  // @ts-expect-error: a wrong reply
  look(): { seen: number } {
    return { seen: 1 };
  }
}

class Greedy implements Handlers<Door> {
  // @ts-expect-error: a handler that wants more than the message carries
  open({ how, why }: { how: string; why: string }): void {
    expect(how + why).to.equal('');
  }
  look(): { seen: string } {
    return { seen: '' };
  }
}

class Good implements Handlers<Door>, Handlers<Own> {
  open(): void {}
  look(): { seen: string } | Later<{ seen: string }> {
    return { seen: '' };
  }
  tick(): void {}
}

export function refused(ctx: Ctx, door: Ref<Door>): void {
  // @ts-expect-error: asking a tell
  ctx.ask(door, 'open', { how: '' }, 1, () => undefined);
  // @ts-expect-error: telling an ask
  ctx.tell(door, 'look', { at: 1 });
  // @ts-expect-error: a wrong payload
  ctx.tell(door, 'open', { how: 1 });
  // @ts-expect-error: a message that nobody declared
  ctx.tell(door, 'close', {});
  // @ts-expect-error: own messages are for toSelf
  ctx.tell(door, 'tick', { count: 1 });
  // @ts-expect-error: a wrong payload to self
  ctx.toSelf('tick', { count: '1' });
  // @ts-expect-error: the disk was not listed in `needs`
  expect(ctx.disk).to.equal(undefined);
  ctx.ask(door, 'look', { at: 1 }, 1, (_, reply) => {
    // @ts-expect-error: a reply has the type that the protocol says
    const seen: number | undefined = reply?.seen;
    expect(seen).to.equal(undefined);
  });
}

export const withoutNeed = actor({
  protocol: Door,
  // @ts-expect-error: the context asks for a disk that `needs` does not list
  create: (ctx: Context<Own, 'disk'>) => {
    expect(ctx.disk).to.not.equal(undefined);
    return new Good();
  },
});

export const withNeed = actor({
  protocol: Door,
  needs: ['disk'],
  create: (ctx: Context<Own, 'disk'>) => {
    expect(ctx.disk).to.not.equal(undefined);
    return new Good();
  },
});

describe('protocol types', () => {
  it('protocol types: what must not compile did not (a wrong line fails the build)', () => {
    const compiled = [Forgetful, Asynchronous, WrongReply, Greedy, Good].map(({ name }) => name);
    expect(compiled).to.deep.equal(['Forgetful', 'Asynchronous', 'WrongReply', 'Greedy', 'Good']);
    expect(withNeed.needs).to.deep.equal(['disk']);
  });
});
