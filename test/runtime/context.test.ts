// What the kernel gives to an actor: traces and logs, timers, sessions, messages to itself.

import { expect } from 'chai';
import { type Deferred, type Later, refTo } from '../../runtime/actor.ts';
import { BugError, failure, KvError } from '../../runtime/errors.ts';
import { Kit } from '../kit.ts';
import {
  Probe,
  Mute,
  type Ctx,
  type Reply,
  type Script,
  type Heard,
  probe,
  here,
  second,
  remote,
  bug,
  kit,
} from './probe-under-test.ts';

describe('kernel: what an actor is given', () => {
  it('kernel: what an actor logs while it handles a traced message has its trace id, and no more', async () => {
    const k = kit();
    const get = (ctx: Ctx, text: string): Reply | Later<Reply> => {
      ctx.log.info('got', { text });
      if (text === 'crash') throw new Error('a defect');
      if (text !== 'ask') return { text };
      const later = ctx.later<Reply>();
      ctx.ask(second, 'get', { text: 'other' }, 100, (_problem, reply) => {
        ctx.log.info('answered');
        later.resolve(reply ?? { text: '' });
      });
      return later;
    };
    const note = (ctx: Ctx, text: string): void => {
      if (text === 'fail') throw new KvError('CONFLICT');
      ctx.log.info('noted', { text, trace: 'its own' });
    };
    await k.spawn(probe, { script: { get, note }, heard: [] });
    await k.spawn(probe, { script: { get, note }, heard: [] }, { shard: 1 });
    k.kernel.ask(here, 'get', { text: 'ask' }, 100, () => undefined, 'trace-1');
    await k.host.settle();
    k.kernel.ask(here, 'get', { text: 'plain' }, 100, () => undefined);
    k.kernel.tell(here, 'note', { text: 'noted' });
    k.kernel.tell(here, 'note', { text: 'fail' });
    k.kernel.ask(here, 'get', { text: 'crash' }, 100, () => undefined, 'trace-2');
    await k.host.settle();
    const said = k.host.logged.map(({ event, fields }) => [event, fields['text'], fields['trace']]);
    expect(said).to.deep.equal([
      ['got', 'ask', 'trace-1'],
      ['got', 'other', 'trace-1'],
      ['answered', undefined, 'trace-1'],
      ['got', 'plain', undefined],
      ['noted', 'noted', 'its own'],
      ['session.failed', undefined, undefined],
      ['got', 'crash', 'trace-2'],
      ['actor.crashed', undefined, 'trace-2'],
    ]);
  });

  it('kernel: a trace id goes with asks, also out of a session, and not beyond', async () => {
    const k = kit();
    const link = k.link('n2');
    const get = (ctx: Ctx): Later<Reply> =>
      ctx.session(async (s) => {
        await s.sleep(10);
        return s.ask(remote, 'get', { text: 'x' }, 100);
      });
    await k.spawn(probe, { script: { get }, heard: [] });
    k.kernel.ask(here, 'get', { text: 'x' }, 100, () => undefined, 'trace-1');
    await k.host.advance(10);
    k.kernel.tell(remote, 'note', { text: 'y' });
    expect(link.sent.map(({ trace }) => trace)).to.deep.equal(['trace-1', '']);
  });

  it('kernel: askNow has the answer when it returns, behind what was sent before', async () => {
    const k = kit();
    const heard: Heard = [];
    await k.spawn(probe, { script: {}, heard });
    k.kernel.tell(here, 'note', { text: 'first' });
    const outcome = k.kernel.askNow(here, 'get', { text: 'x' });
    expect(outcome).to.deep.equal({ problem: undefined, reply: { text: 'x' } });
    expect(heard).to.deep.equal(['start', 'first', 'x']);
    expect(k.kernel.openAsks).to.equal(0);
  });

  it('kernel: askNow follows an answer over other actors of its thread', async () => {
    const k = kit();
    const get = (ctx: Ctx, text: string): Later<Reply> => {
      const later = ctx.later<Reply>();
      ctx.ask(second, 'get', { text }, 100, (_, reply) => {
        later.resolve({ text: `${reply?.text ?? ''}!` });
      });
      return later;
    };
    await k.spawn(probe, { script: { get }, heard: [] });
    await k.spawn(probe, { script: {}, heard: [] }, { shard: 1 });
    expect(k.kernel.askNow(here, 'get', { text: 'x' })?.reply).to.deep.equal({ text: 'x!' });
  });

  it('kernel: askNow tells failures, and says when there is no answer yet', async () => {
    const k = kit();
    const waiting: Deferred<Reply>[] = [];
    const get = (ctx: Ctx, text: string): Reply | Later<Reply> => {
      if (text === 'fail') throw new KvError('NOT_FOUND');
      const later = ctx.later<Reply>();
      waiting.push(later);
      return later;
    };
    await k.spawn(probe, { script: { get }, heard: [] });
    expect(k.kernel.askNow(here, 'get', { text: 'fail' })?.problem?.code).to.equal('NOT_FOUND');
    expect(k.kernel.askNow(here, 'get', { text: 'wait' })).to.equal(undefined);
    waiting[0]?.resolve({ text: 'late' });
    expect(k.kernel.openAsks).to.equal(0);
  });

  it('kernel: askAhead is handled before mail that waits, and opens no ask', async () => {
    const k = kit();
    const heard: Heard = [];
    await k.spawn(probe, { script: {}, heard });
    k.kernel.tell(here, 'note', { text: 'waits' });
    const outcome = k.kernel.askAhead(here, 'get', { text: 'x' });
    expect(outcome).to.deep.equal({ problem: undefined, reply: { text: 'x' } });
    expect(heard).to.deep.equal(['start', 'x']);
    await k.host.settle();
    expect(heard).to.deep.equal(['start', 'x', 'waits']);
    expect(k.kernel.openAsks).to.equal(0);
  });

  it('kernel: askAhead follows an answer over other actors, and tells failures', async () => {
    const k = kit();
    const get = (ctx: Ctx, text: string): Later<Reply> => {
      if (text === 'fail') throw new KvError('NOT_FOUND');
      const later = ctx.later<Reply>();
      if (text === 'ask')
        ctx.ask(second, 'get', { text }, 100, (_, reply) => {
          later.resolve({ text: `${reply?.text ?? ''}!` });
        });
      return later;
    };
    await k.spawn(probe, { script: { get }, heard: [] });
    await k.spawn(probe, { script: {}, heard: [] }, { shard: 1 });
    expect(k.kernel.askAhead(here, 'get', { text: 'ask' })?.reply).to.deep.equal({ text: 'ask!' });
    expect(k.kernel.askAhead(here, 'get', { text: 'fail' })?.problem?.code).to.equal('NOT_FOUND');
    expect(k.kernel.askAhead(here, 'get', { text: 'wait' })).to.equal(undefined);
    const missing = refTo(Probe, 'n1', 9);
    expect(k.kernel.askAhead(missing, 'get', { text: 'x' })?.problem?.code).to.equal(
      'NOT_CONNECTED',
    );
  });

  /** What `peeks` of the first probe gave, in a turn of it. */
  async function peeked(
    k: Kit,
    scripts: readonly [Script, Script],
    peeks: (ctx: Ctx) => unknown,
    heard: Heard = [],
  ): Promise<unknown> {
    let seen: unknown;
    const note = (ctx: Ctx): void => {
      try {
        seen = peeks(ctx);
      } catch (error) {
        seen = error;
      }
    };
    await k.spawn(probe, { script: { ...scripts[0], note }, heard: [] });
    await k.spawn(probe, { script: scripts[1], heard }, { shard: 1 });
    k.kernel.tell(here, 'note', { text: 'go' });
    await k.host.settle();
    return seen;
  }

  it('kernel: a peek has the answer in the turn of its actor, and opens no ask', async () => {
    const k = kit();
    const get = (ctx: Ctx, text: string): Reply => {
      // Who is peeked at peeks at nobody: its own actors might stand in the middle of a turn.
      const back = ctx.peek(here, 'get', { text: 'back' });
      return { text: `${text}, ${back === undefined ? 'not back' : 'back'}` };
    };
    const seen = await peeked(k, [{}, { get }], (ctx) => [
      ctx.peek(second, 'get', { text: 'x' }),
      k.kernel.openAsks,
    ]);
    expect(seen).to.deep.equal([{ problem: undefined, reply: { text: 'x, not back' } }, 0]);
  });

  it('kernel: who has mail, is elsewhere, is oneself or does not run is not peeked at', async () => {
    const heard: Heard = [];
    const seen = await peeked(
      kit(),
      [{}, {}],
      (ctx) => {
        const none = [here, remote, refTo(Probe, 'n1', 9)].map((ref) =>
          ctx.peek(ref, 'get', { text: 'x' }),
        );
        ctx.tell(second, 'note', { text: 'sent before' });
        return [...none, ctx.peek(second, 'get', { text: 'after' })];
      },
      heard,
    );
    expect(seen).to.deep.equal([undefined, undefined, undefined, undefined]);
    expect(heard).to.deep.equal(['start', 'sent before']);
  });

  it('kernel: a peek tells failures and crashes, and takes only messages that are marked', async () => {
    const get = (_: Ctx, text: string): Reply => {
      if (text === 'fail') throw new KvError('NOT_FOUND');
      return bug();
    };
    const codes = await peeked(kit(), [{}, { get }], (ctx) => [
      ctx.peek(second, 'get', { text: 'fail' })?.problem?.code,
      ctx.peek(second, 'get', { text: 'crash' })?.problem?.code,
      ctx.peek(second, 'get', { text: 'it is not running' }),
    ]);
    expect(codes).to.deep.equal(['NOT_FOUND', 'ACTOR_RESTARTED', undefined]);
    const thrown = await peeked(kit(), [{}, {}], (ctx) => ctx.peek(second, 'hold', { text: 'x' }));
    expect(thrown).to.be.instanceOf(BugError);
    const later = await peeked(kit(), [{}, { get: (ctx) => ctx.later<Reply>() }], (ctx) =>
      ctx.peek(second, 'get', { text: 'x' }),
    );
    expect(later).to.be.instanceOf(BugError);
  });

  it('kernel: a crash in an askAhead is told to its caller', async () => {
    const k = kit();
    const get = (): Reply => {
      throw new BugError('in a turn');
    };
    await k.spawn(probe, { script: { get }, heard: [] });
    const outcome = k.kernel.askAhead(here, 'get', { text: 'x' });
    expect(outcome?.problem?.code).to.equal('ACTOR_RESTARTED');
  });

  it('kernel: askNow in a turn is a bug', async () => {
    const k = kit();
    let error: unknown;
    const note = (): void => {
      try {
        k.kernel.askNow(second, 'get', { text: 'x' });
      } catch (thrown) {
        error = thrown;
      }
    };
    await k.spawn(probe, { script: { note }, heard: [] });
    k.kernel.tell(here, 'note', { text: 'go' });
    await k.host.settle();
    expect(error).to.be.instanceOf(BugError);
  });

  it('kernel: a stop with a reason ends every ask from outside, answered ones with their answer', async () => {
    const k = kit();
    const get = (ctx: Ctx, text: string): Reply | Later<Reply> =>
      text === 'wait' ? ctx.later<Reply>() : { text };
    await k.spawn(probe, { script: { get }, heard: [] });
    const ended: string[] = [];
    for (const text of ['wait', 'now'])
      k.kernel.ask(here, 'get', { text }, 100, (problem, reply) => {
        ended.push(problem?.code ?? reply?.text ?? '');
      });
    k.kernel.askNow(here, 'get', { text: 'turns' });
    k.kernel.stop(failure('DISK_FAILED'));
    await k.host.settle();
    expect(ended.sort()).to.deep.equal(['DISK_FAILED', 'now']);
  });

  it('kernel: only the capabilities that a kind lists', async () => {
    const seen: string[] = [];
    const create = (ctx: object): object => {
      seen.push(...Object.keys(ctx).filter((name) => name === 'disk' || name === 'codecs'));
      return {};
    };
    const k = new Kit([Mute], { disk: {} as never, codecs: {} as never });
    await k.spawn({ protocol: Mute, needs: ['codecs'], create }, {});
    expect(seen).to.deep.equal(['codecs']);
  });

  it('kernel: two actors at one address are a bug', async () => {
    const k = kit();
    await k.spawn(probe, { script: {}, heard: [] });
    expect(() => k.spawn(probe, { script: {}, heard: [] })).to.throw(
      BugError,
      'two actors at n1/probe/0',
    );
  });
});
