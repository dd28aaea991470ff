// Turns inside of turns (decision 22): that they are a shortcut of the usual way and never more. One
// kind of actor, whose handlers do what the test hands to it.

import { expect } from 'chai';
import { actor, type Context, type Deferred, type Later, refTo } from '../../runtime/actor.ts';
import { BugError, KvError } from '../../runtime/errors.ts';
import { ask, type Handlers, protocol, tell } from '../../runtime/protocol.ts';
import { restart } from '../../runtime/supervisor.ts';
import { Kit } from '../kit.ts';

const Player = protocol('player', 200, {
  note: tell<{ readonly text: string }>(1),
  get: ask<{ readonly text: string }, { readonly text: string }>(2),
});
type Player = typeof Player.messages;
type Body = { readonly text: string };

interface Script {
  readonly note?: (ctx: Context, text: string) => void;
  readonly get?: (ctx: Context, text: string) => Body | Later<Body>;
}

class PlayerActor implements Handlers<Player> {
  readonly #ctx: Context;
  readonly #script: Script;
  readonly #heard: string[];

  constructor(ctx: Context, { script, heard }: { script: Script; heard: string[] }) {
    this.#ctx = ctx;
    this.#script = script;
    this.#heard = heard;
  }

  note({ text }: Body): void {
    this.#heard.push(`${this.#ctx.shard}:${text}`);
    this.#script.note?.(this.#ctx, text);
    this.#heard.push(`${this.#ctx.shard}:end of ${text}`);
  }

  get({ text }: Body): Body | Later<Body> {
    this.#heard.push(`${this.#ctx.shard}:${text}`);
    return this.#script.get?.(this.#ctx, text) ?? { text: `${text}!` };
  }
}

const player = actor({
  protocol: Player,
  create: (ctx: Context, options: { script: Script; heard: string[] }) =>
    new PlayerActor(ctx, options),
});

const first = refTo(Player, 'n1');
const second = refTo(Player, 'n1', 1);

/** Two actors that write into one list; the first one takes notes, the second answers. */
class Stage {
  readonly kit = new Kit([Player]);
  readonly heard: string[] = [];

  static async open(script: Script, other: Script = {}): Promise<Stage> {
    const stage = new Stage();
    const { kit, heard } = stage;
    const onCrash = restart({ fromMs: 10, toMs: 10, limit: 5, withinMs: 60_000 });
    await kit.spawn(player, { script, heard }, { onCrash });
    await kit.spawn(player, { script: other, heard }, { shard: 1, onCrash });
    return stage;
  }

  async play(...notes: string[]): Promise<string[]> {
    for (const text of notes) this.kit.kernel.tell(first, 'note', { text });
    await this.kit.host.settle();
    return this.heard;
  }
}

/** Asks the second actor and writes down what it says. */
const asks =
  (stage: () => Stage, deadlineMs = 2000) =>
  (ctx: Context, text: string): void =>
    ctx.askHere(second, 'get', { text }, deadlineMs, (problem, reply) => {
      stage().heard.push(`0:heard ${problem?.code ?? reply?.text ?? ''}`);
    });

describe('nested turns', () => {
  let stage: Stage;
  const note = asks(() => stage);

  it('nested turns: where nothing waits, receiver and answer have their turns before askHere returns', async () => {
    stage = await Stage.open({ note });
    expect(await stage.play('a')).to.deep.equal(['0:a', '1:a', '0:heard a!', '0:end of a']);
    expect(stage.kit.kernel.openAsks).to.equal(0);
    expect(stage.kit.sample('kvd_mailbox_handled_total', 'player')).to.equal(1);
  });

  it('nested turns: mail that waits goes first', async () => {
    const sends = (ctx: Context, text: string): void => {
      if (ctx.shard !== 0) return;
      ctx.tell(second, 'note', { text: 'earlier' });
      note(ctx, text);
    };
    stage = await Stage.open({ note: sends });
    expect(await stage.play('a')).to.deep.equal([
      ...['0:a', '0:end of a'],
      ...['1:earlier', '1:end of earlier'],
      ...['1:a', '0:heard a!'],
    ]);
  });

  it('nested turns: nobody is entered while a handler of it runs', async () => {
    const get = (ctx: Context, text: string): Body => {
      ctx.tellHere(first, 'note', { text: 'back' });
      return { text };
    };
    stage = await Stage.open(
      { note: (ctx, text) => (text === 'a' ? note(ctx, text) : undefined) },
      { get },
    );
    expect(await stage.play('a')).to.deep.equal([
      ...['0:a', '1:a', '0:heard a', '0:end of a'],
      ...['0:back', '0:end of back'],
    ]);
  });

  it('nested turns: answers that come later are turns of their own, in their order', async () => {
    const held: Deferred<Body>[] = [];
    const get = (ctx: Context, text: string): Later<Body> | Body => {
      const later = ctx.later<Body>();
      held.push(later);
      if (text !== 'c') return later;
      // The one who asked is in its turn: its answers wait, and no later one overtakes them.
      held.forEach((one, index) => one.resolve({ text: String(index) }));
      return later;
    };
    stage = await Stage.open({ note }, { get });
    await stage.play('a', 'b');
    expect(stage.kit.kernel.openAsks).to.equal(2);
    stage.heard.length = 0;
    expect(await stage.play('c')).to.deep.equal([
      ...['0:c', '1:c', '0:end of c'],
      ...['0:heard 0', '0:heard 1', '0:heard 2'],
    ]);
    expect(stage.kit.kernel.openAsks).to.equal(0);
  });

  it('nested turns: an answer that comes in the turn of another actor is handed over in it', async () => {
    const held: Deferred<Body>[] = [];
    const later = (ctx: Context): Later<Body> => {
      const made = ctx.later<Body>();
      held.push(made);
      return made;
    };
    stage = await Stage.open({ note }, { get: later, note: () => held[0]?.resolve({ text: 'x' }) });
    await stage.play('a');
    stage.kit.kernel.tell(second, 'note', { text: 'now' });
    await stage.kit.host.settle();
    expect(stage.heard.slice(3)).to.deep.equal(['1:now', '0:heard x', '1:end of now']);
  });

  it('nested turns: a deadline ends what was left open, and a late answer has no effect', async () => {
    const held: Deferred<Body>[] = [];
    const get = (ctx: Context): Later<Body> => {
      const later = ctx.later<Body>();
      held.push(later);
      return later;
    };
    stage = await Stage.open({ note: asks(() => stage, 1100) }, { get });
    await stage.play('a');
    await stage.kit.host.advance(200);
    held[0]?.resolve({ text: 'late' });
    await stage.kit.host.settle();
    expect(stage.heard.slice(3)).to.deep.equal(['0:heard TIMEOUT']);
  });

  it('nested turns: refusals and crashes of the receiver are told, and whoever asked goes on', async () => {
    const get = (_: Context, text: string): Body => {
      if (text === 'refused') throw new KvError('NOT_FOUND');
      throw new BugError('broken');
    };
    stage = await Stage.open({ note }, { get });
    await stage.play('refused');
    await stage.play('crash');
    expect(stage.heard.filter((line) => line.includes('heard'))).to.deep.equal([
      '0:heard NOT_FOUND',
      '0:heard ACTOR_RESTARTED',
    ]);
    // Back after its pause.
    await stage.kit.host.advance(20);
    await stage.play('refused');
    expect(stage.heard.slice(-2)).to.deep.equal(['0:heard NOT_FOUND', '0:end of refused']);
  });

  it('nested turns: the answer to an actor that has crashed meanwhile goes nowhere', async () => {
    const held: Deferred<Body>[] = [];
    const get = (ctx: Context): Later<Body> => {
      const later = ctx.later<Body>();
      held.push(later);
      return later;
    };
    for (const deadlineMs of [2000, Infinity]) {
      held.length = 0;
      const crashes = (ctx: Context, text: string): void => {
        if (text === 'crash') throw new BugError('broken');
        asks(() => stage, deadlineMs)(ctx, text);
      };
      stage = await Stage.open({ note: crashes }, { get });
      await stage.play('a');
      await stage.play('crash');
      await stage.kit.host.advance(20);
      held[0]?.resolve({ text: 'x' });
      await stage.kit.host.settle();
      expect(stage.heard.filter((line) => line.includes('heard'))).to.deep.equal([]);
    }
  });

  it("nested turns: forward makes the answer of the other actor this one's", async () => {
    const third = refTo(Player, 'n1', 2);
    const forwards = (ctx: Context, text: string): Body | Later<Body> =>
      ctx.forward(third, 'get', { text }, 2000);
    stage = await Stage.open({ note }, { get: forwards });
    const { kit, heard } = stage;
    const held: Deferred<Body>[] = [];
    const get = (ctx: Context, text: string): Body | Later<Body> => {
      if (text === 'refused') throw new KvError('NOT_FOUND');
      if (text !== 'later') return { text: `${text}?` };
      const later = ctx.later<Body>();
      held.push(later);
      return later;
    };
    await kit.spawn(player, { script: { get }, heard }, { shard: 2 });
    await stage.play('now', 'later', 'refused');
    held[0]?.resolve({ text: 'then' });
    await kit.host.settle();
    expect(heard.filter((line) => line.includes('heard'))).to.deep.equal([
      ...['0:heard now?', '0:heard NOT_FOUND', '0:heard then'],
    ]);
    expect(kit.kernel.openAsks).to.equal(0);
  });

  it('nested turns: asked from outside, the actor has its turn at once, behind mail that waits', async () => {
    stage = await Stage.open({});
    const { kernel, host } = stage.kit;
    const answers: string[] = [];
    const askIt = (text: string): void =>
      kernel.askHere(first, 'get', { text }, 1000, (problem, reply) => {
        answers.push(problem?.code ?? reply?.text ?? '');
      });
    askIt('a');
    expect(answers).to.deep.equal(['a!']);
    kernel.tell(first, 'note', { text: 'earlier' });
    askIt('b');
    expect(answers).to.deep.equal(['a!']);
    await host.settle();
    expect(answers).to.deep.equal(['a!', 'b!']);
    expect(stage.heard).to.deep.equal(['0:a', '0:earlier', '0:end of earlier', '0:b']);
  });
});
