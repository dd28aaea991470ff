// The kernel's promises (style 1.5), one test each: delivery, answers, deadlines, lanes, crashes,
// and the life of an actor. The actor under test, the probe, does what the test hands to it.

import { expect } from 'chai';
import { actor, type Deferred, type Later, refTo } from '../../runtime/actor.ts';
import type { Envelope } from '../../runtime/envelope.ts';
import { errorTable, BugError, failure, KvError } from '../../runtime/errors.ts';
import { type Handlers } from '../../runtime/protocol.ts';
import { codeRejectedBy } from '../kit.ts';
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
  twice,
  bug,
  kit,
  fromRemote,
} from './probe-under-test.ts';

describe('kernel: delivery', () => {
  it('kernel: tells of one sender arrive in order, and never inside of the sender', async () => {
    const k = kit();
    const heard: Heard = [];
    const note = (ctx: Ctx, text: string): void => {
      if (text !== 'first') return;
      ctx.tell(here, 'note', { text: 'a' });
      ctx.tell(here, 'note', { text: 'b' });
      heard.push('end of first');
    };
    await k.spawn(probe, { script: { note }, heard });
    k.kernel.tell(here, 'note', { text: 'first' });
    expect(heard).to.deep.equal(['start']);
    await k.host.settle();
    expect(heard).to.deep.equal(['start', 'first', 'end of first', 'a', 'b']);
  });

  it('kernel: a tell to nowhere is dropped and counted', async () => {
    const k = kit();
    k.kernel.tell(remote, 'note', { text: 'x' });
    await k.host.settle();
    const dropped = k.kernel.samples().find(({ name }) => name === 'kvd_tells_dropped_total');
    expect(dropped?.value).to.equal(1);
  });

  it('kernel: a message that is not in the protocol is a bug of its sender', () => {
    const k = kit();
    expect(() => k.kernel.tell(here, 'get' as never, { text: 'x' } as never)).to.throw(
      BugError,
      'no tell get in the protocol of probe',
    );
  });

  it('kernel: a message without a handler is a bug of its actor', async () => {
    const k = kit();
    const mute = actor({ protocol: Mute, create: () => ({}) as Handlers<typeof Mute.messages> });
    await k.spawn(mute, {});
    k.kernel.tell(refTo(Mute, 'n1'), 'unheard', {});
    await k.host.settle();
    expect(k.host.stops).to.deep.equal([
      'actor n1/mute/0 crashed: BugError: n1/mute/0 has no handler unheard',
    ]);
  });

  it('kernel: after 512 turns the event loop gets its chance (messages=1000)', async () => {
    const k = kit();
    const heard: Heard = [];
    await k.spawn(probe, { script: {}, heard }, { mailboxCapacity: 1000 });
    for (let i = 0; i < 1000; i += 1) k.kernel.tell(here, 'note', { text: String(i) });
    const before: number[] = [];
    k.host.timers.later(() => before.push(heard.length));
    await k.host.settle();
    expect(heard).to.have.lengthOf(1001);
    expect(before[0]).to.be.within(512, 600);
  });
});

describe('kernel: answers', () => {
  it('kernel: an ask is answered with the reply, with a failure, or later', async () => {
    const k = kit();
    const parked: Deferred<Reply>[] = [];
    const get = (ctx: Ctx, text: string): Reply | Later<Reply> => {
      if (text === 'throw') throw new KvError('NOT_FOUND', { key: 'k' });
      if (text !== 'park') return { text: `${text}!` };
      const deferred = ctx.later<Reply>();
      parked.push(deferred);
      return deferred;
    };
    await k.spawn(probe, { script: { get }, heard: [] });
    const now = k.ask(here, 'get', { text: 'now' });
    const thrown = k.ask(here, 'get', { text: 'throw' });
    const parkedAsk = k.ask(here, 'get', { text: 'park' });
    await k.host.settle();
    expect(now).to.deep.equal({ failure: undefined, reply: { text: 'now!' }, calls: 1 });
    expect(thrown.failure).to.deep.equal(failure('NOT_FOUND', { key: 'k' }));
    expect(parkedAsk.calls).to.equal(0);
    parked[0]?.resolve({ text: 'at last' });
    parked[0]?.fail(failure('BUG'));
    await k.host.settle();
    expect(parkedAsk).to.deep.equal({ failure: undefined, reply: { text: 'at last' }, calls: 1 });
    expect(k.kernel.openAsks).to.equal(0);
  });

  it('kernel: a KvError in a handler ends the message only, and is logged for a tell', async () => {
    const k = kit();
    const heard: Heard = [];
    const note = (): never => {
      throw new KvError('CONFLICT');
    };
    await k.spawn(probe, { script: { note }, heard });
    k.kernel.tell(here, 'note', { text: 'a' });
    k.kernel.tell(here, 'note', { text: 'b' });
    await k.host.settle();
    expect(heard).to.deep.equal(['start', 'a', 'b']);
    expect(k.host.logged.map(({ event }) => event)).to.deep.equal([
      'session.failed',
      'session.failed',
    ]);
  });

  it('kernel: a session asks, sleeps and answers; its KvError becomes the answer', async () => {
    const k = kit();
    const get = (ctx: Ctx, text: string): Reply | Later<Reply> => {
      if (text === 'inner') return { text: 'inner reply' };
      return ctx.session(async (s) => {
        await s.sleep(50);
        const { text: inner } = await s.ask(second, 'get', { text: 'inner' }, 100);
        if (text === 'fail') throw new KvError('UNAVAILABLE', { required: 2 });
        return { text: inner };
      });
    };
    await k.spawn(probe, { script: { get }, heard: [] });
    await k.spawn(probe, { script: { get }, heard: [] }, { shard: 1 });
    const good = k.ask(here, 'get', { text: 'good' });
    const bad = k.ask(here, 'get', { text: 'fail' });
    await k.host.advance(49);
    expect(good.calls).to.equal(0);
    await k.host.advance(1);
    expect(good.reply).to.deep.equal({ text: 'inner reply' });
    expect(bad.failure).to.deep.equal(failure('UNAVAILABLE', { required: 2 }));
  });

  it('kernel: a failed ask rejects inside of a session with its code', async () => {
    const k = kit();
    const codes: string[] = [];
    const note = (ctx: Ctx): Later<void> =>
      ctx.session(async (s) => {
        codes.push(await codeRejectedBy(s.ask(remote, 'get', { text: 'x' }, 100)));
      });
    await k.spawn(probe, { script: { note }, heard: [] });
    k.kernel.tell(here, 'note', { text: 'go' });
    await k.host.settle();
    expect(codes).to.deep.equal(['NOT_CONNECTED']);
  });

  it('kernel: the callback of an ask is a turn of the asker', async () => {
    const k = kit();
    const heard: Heard = [];
    const note = (ctx: Ctx): void => {
      ctx.ask(second, 'get', { text: 'question' }, 100, (_, reply) => {
        heard.push(reply?.text ?? 'nothing');
        bug();
      });
    };
    await k.spawn(probe, { script: { note }, heard });
    await k.spawn(probe, { script: {}, heard: [] }, { shard: 1 });
    k.kernel.tell(here, 'note', { text: 'go' });
    await k.host.settle();
    expect(heard).to.deep.equal(['start', 'go', 'question']);
    expect(k.host.stops).to.deep.equal(['actor n1/probe/0 crashed: BugError: broken']);
  });

  it('kernel: an answer to another node goes back over the link it came from', async () => {
    const k = kit();
    await k.spawn(probe, { script: {}, heard: [] });
    const link = k.link('n2');
    k.kernel.deliver(fromRemote({ via: link, text: 'hello' }));
    k.kernel.deliver(fromRemote({ via: link, text: 'hello', shard: 7 }));
    await k.host.settle();
    const answers = link.sent.map(({ kind, node, askId, body, failure: problem }) => {
      return { kind, node, askId, body: body, code: problem?.code };
    });
    expect(answers).to.deep.equal([
      { kind: 'error', node: 'n2', askId: 5, body: undefined, code: 'NO_SUCH_ACTOR' },
      { kind: 'reply', node: 'n2', askId: 5, body: { text: 'hello' }, code: undefined },
    ]);
  });
});

describe('kernel: deadlines and bounds', () => {
  it('kernel: no answer in time is TIMEOUT, once, within 16 ms of its deadline', async () => {
    const k = kit();
    const parked: Deferred<Reply>[] = [];
    const get = (ctx: Ctx): Later<Reply> => {
      const deferred = ctx.later<Reply>();
      parked.push(deferred);
      return deferred;
    };
    await k.spawn(probe, { script: { get }, heard: [] });
    const outcome = k.ask(here, 'get', { text: 'x' }, 100);
    await k.host.advance(99);
    expect(outcome.calls).to.equal(0);
    await k.host.advance(17);
    expect(outcome.failure).to.deep.equal(failure('TIMEOUT', { node: 'n1', message: 'get' }));
    parked[0]?.resolve({ text: 'too late' });
    await k.host.settle();
    expect(outcome.calls).to.equal(1);
  });

  it('kernel: a message whose deadline has passed is dropped before work and counted', async () => {
    const k = kit();
    const heard: Heard = [];
    await k.spawn(probe, { script: {}, heard });
    const outcome = k.ask(here, 'get', { text: 'x' }, 100);
    k.host.nowMs += 200;
    await k.host.advance(0);
    expect(heard).to.deep.equal(['start']);
    expect(outcome.failure?.code).to.equal('TIMEOUT');
    expect(k.sample('kvd_mailbox_expired_total', 'probe')).to.equal(1);
  });

  it('kernel: an ask from a callback of the disk counts from now, not from the last turn', async () => {
    const k = kit();
    const codes: (string | undefined)[] = [];
    const synced: (() => void)[] = [];
    const note = (ctx: Ctx): void => {
      synced.push(() => {
        ctx.ask(second, 'get', { text: 'x' }, 100, (problem) => codes.push(problem?.code));
      });
    };
    await k.spawn(probe, { script: { note }, heard: [] });
    await k.spawn(probe, { script: {}, heard: [] }, { shard: 1 });
    k.kernel.tell(here, 'note', { text: 'go' });
    await k.host.advance(10_000);
    synced[0]?.();
    await k.host.settle();
    expect(codes).to.deep.equal([undefined]);
  });

  it('kernel: a full user lane refuses asks with OVERLOADED and counts tells (capacity=2)', async () => {
    const k = kit();
    const heard: Heard = [];
    await k.spawn(probe, { script: {}, heard }, { mailboxCapacity: 2 });
    k.kernel.tell(here, 'note', { text: 'a' });
    k.kernel.tell(here, 'note', { text: 'b' });
    k.kernel.tell(here, 'note', { text: 'c' });
    const refused = k.ask(here, 'get', { text: 'd' });
    k.kernel.tell(here, 'urgent', { text: 'urgent' });
    await k.host.settle();
    expect(refused.failure?.code).to.equal('OVERLOADED');
    expect(heard).to.deep.equal(['start', 'urgent', 'a', 'b']);
    expect(k.sample('kvd_mailbox_refused_total', 'probe')).to.equal(2);
  });

  it('kernel: a full link is OVERLOADED, a lost one UNREACHABLE', async () => {
    const k = kit();
    const link = k.link('n2');
    const lost = k.ask(remote, 'get', { text: 'x' });
    link.isFull = true;
    const full = k.ask(remote, 'get', { text: 'x' });
    k.kernel.linkLost(link);
    await k.host.settle();
    expect(lost.failure).to.deep.equal(failure('UNREACHABLE', { node: 'n2' }));
    expect(full.failure?.code).to.equal('OVERLOADED');
  });

  it('kernel: an answer without room on its way back becomes an error of unknown effect', async () => {
    const k = kit();
    await k.spawn(probe, { script: {}, heard: [] });
    const sent: Envelope[] = [];
    const send = (envelope: Envelope): boolean => {
      if (envelope.kind !== 'reply') sent.push(envelope);
      return envelope.kind !== 'reply';
    };
    k.kernel.deliver(fromRemote({ via: { name: 'n2', send }, text: 'x' }));
    await k.host.settle();
    expect(sent.map(({ kind, node, askId }) => ({ kind, node, askId }))).to.deep.equal([
      { kind: 'error', node: 'n2', askId: 5 },
    ]);
    expect(sent[0]?.failure?.code).to.equal('UNREACHABLE');
    expect(errorTable.UNREACHABLE.effect).to.equal('unknown');
  });

  it('kernel: what was handed to a link that never opened had certainly no effect', async () => {
    const k = kit();
    const link = k.link('n2');
    link.wasOpen = false;
    const lost = k.ask(remote, 'get', { text: 'x' });
    k.kernel.linkLost(link);
    await k.host.settle();
    expect(lost.failure).to.deep.equal(failure('NOT_CONNECTED', { node: 'n2' }));
    expect(errorTable.NOT_CONNECTED.effect).to.equal('none');
  });

  it('kernel: control goes first, and background gets one turn in eight', async () => {
    const k = kit();
    const heard: Heard = [];
    await k.spawn(probe, { script: {}, heard }, { mailboxCapacity: 20 });
    k.kernel.tell(here, 'slow', { text: 's' });
    for (let i = 0; i < 10; i += 1) k.kernel.tell(here, 'note', { text: 'n' });
    k.kernel.tell(here, 'urgent', { text: 'u' });
    await k.host.settle();
    expect(heard.join('')).to.equal('startunnnnnnnsnnn');
  });
});

describe('kernel: start and drain', () => {
  it('kernel: messages of others wait until the session of start() has ended', async () => {
    const k = kit();
    const heard: Heard = [];
    const start = (ctx: Ctx): Later<void> =>
      ctx.session(async (s) => {
        ctx.toSelf('mine', { text: 'own' });
        await s.sleep(100);
      });
    const spawned = k.spawn(probe, { script: { start }, heard });
    k.kernel.tell(here, 'note', { text: 'user' });
    k.kernel.tell(here, 'urgent', { text: 'control' });
    await k.host.advance(99);
    expect(heard).to.deep.equal(['start', 'own']);
    await k.host.advance(1);
    await spawned;
    expect(heard).to.deep.equal(['start', 'own', 'control', 'user']);
  });

  it('kernel: a start that fails, by KvError or by bug, fails the spawn', async () => {
    const k = kit();
    const starts: Script[] = [
      { start: (ctx) => ctx.session(() => Promise.reject(new KvError('CORRUPT'))) },
      { start: (ctx) => ctx.session(() => Promise.reject(new BugError('broken'))) },
      {
        start: () => {
          throw new KvError('DISK_FAILED');
        },
      },
    ];
    const codes = starts.map((script, shard) =>
      codeRejectedBy(k.spawn(probe, { script, heard: [] }, { shard })),
    );
    await k.host.settle();
    expect(await Promise.all(codes)).to.deep.equal(['CORRUPT', 'BUG', 'DISK_FAILED']);
    expect(k.host.stops).to.deep.equal([]);
  });

  it('kernel: a crash while it starts is restarted, and the spawn ends with the new start', async () => {
    const k = kit();
    const heard: Heard = [];
    let crashed = false;
    const start = (ctx: Ctx): Later<void> | void => {
      if (crashed) return;
      ctx.toSelf('mine', { text: 'crash' });
      return ctx.session((s) => s.sleep(10));
    };
    const mine = (): void => {
      crashed = true;
      bug();
    };
    const spawned = k.spawn(probe, { script: { start, mine }, heard }, { onCrash: twice });
    await k.host.advance(50);
    k.kernel.tell(here, 'note', { text: 'waits' });
    await k.host.advance(49);
    expect(heard).to.deep.equal(['start', 'crash']);
    await k.host.advance(1);
    await spawned;
    expect(heard).to.deep.equal(['start', 'crash', 'start', 'waits']);
  });

  it('kernel: actors drain in the reverse order of their starts, one after the other', async () => {
    const k = kit();
    const order: string[] = [];
    for (const shard of [0, 1, 2]) {
      const drain = (ctx: Ctx): Later<void> =>
        ctx.session(async (s) => {
          order.push(`${shard} begins`);
          await s.sleep(10);
          order.push(`${shard} ends`);
        });
      await k.spawn(probe, { script: { drain }, heard: [] }, { shard });
    }
    const drained = k.kernel.drain();
    await k.host.advance(100);
    await drained;
    expect(order).to.deep.equal([2, 1, 0].flatMap((s) => [`${s} begins`, `${s} ends`]));
  });

  it('kernel: a stopped kernel delivers nothing', async () => {
    const k = kit();
    const heard: Heard = [];
    await k.spawn(probe, { script: {}, heard });
    k.kernel.tell(here, 'note', { text: 'x' });
    k.kernel.stop();
    k.kernel.tell(here, 'note', { text: 'y' });
    await k.host.advance(1000);
    expect(heard).to.deep.equal(['start']);
  });
});

describe('kernel: crashes', () => {
  it('kernel: a bug ends the instance; the rest of its mail waits for the next (pause=100)', async () => {
    const k = kit();
    const heard: Heard = [];
    const get = (_: Ctx, text: string): Reply => (text === 'poison' ? bug() : { text });
    await k.spawn(probe, { script: { get }, heard }, { onCrash: twice });
    const poison = k.ask(here, 'get', { text: 'poison' }, 5000);
    const kept = k.ask(here, 'get', { text: 'kept' }, 5000);
    await k.host.advance(99);
    k.kernel.tell(here, 'urgent', { text: 'control' });
    await k.host.settle();
    expect(poison.failure).to.deep.equal(failure('ACTOR_RESTARTED', { actor: 'n1/probe/0' }));
    expect(heard).to.deep.equal(['start', 'poison']);
    await k.host.advance(1);
    expect(heard).to.deep.equal(['start', 'poison', 'start', 'control', 'kept']);
    expect(kept.reply).to.deep.equal({ text: 'kept' });
  });

  it('kernel: the pause doubles, and one crash over the limit stops the node (limit=2)', async () => {
    const k = kit();
    const heard: Heard = [];
    await k.spawn(probe, { script: { note: bug }, heard }, { onCrash: twice });
    for (const pauseMs of [100, 200]) {
      const starts = heard.filter((text) => text === 'start').length;
      k.kernel.tell(here, 'note', { text: 'x' });
      await k.host.advance(pauseMs - 1);
      expect(heard.filter((text) => text === 'start')).to.have.lengthOf(starts);
      await k.host.advance(1);
      expect(heard.filter((text) => text === 'start')).to.have.lengthOf(starts + 1);
    }
    expect(k.host.stops).to.deep.equal([]);
    k.kernel.tell(here, 'note', { text: 'x' });
    await k.host.settle();
    expect(k.host.stops).to.deep.equal(['actor n1/probe/0 crashed: BugError: broken']);
    expect(k.ask(here, 'get', { text: 'x' }).calls).to.equal(0);
    expect(k.host.logged.filter(({ event }) => event === 'actor.crashed')).to.have.lengthOf(3);
  });

  it('kernel: a bug in a session crashes the actor, and its caller is told', async () => {
    const k = kit();
    const get = (ctx: Ctx): Later<Reply> =>
      ctx.session(async (s) => {
        await s.sleep(10);
        return bug();
      });
    await k.spawn(probe, { script: { get }, heard: [] }, { onCrash: twice });
    const outcome = k.ask(here, 'get', { text: 'x' });
    await k.host.advance(10);
    expect(outcome.failure?.code).to.equal('ACTOR_RESTARTED');
    expect(k.host.logged.map(({ event }) => event)).to.deep.equal(['actor.crashed']);
  });

  it('kernel: own messages, timers, asks and sessions die with their instance', async () => {
    const k = kit();
    const heard: Heard = [];
    const note = (ctx: Ctx, text: string): void => {
      if (text === 'crash') bug();
      ctx.after(50, 'mine', { text: 'timer' });
      ctx.after(500, 'mine', { text: 'late timer' });
      ctx.ask(remote, 'get', { text: 'x' }, 300, () => heard.push('answer'));
      ctx.session(async (s) => {
        await s.sleep(20);
        heard.push('session woke');
        ctx.toSelf('mine', { text: 'from session' });
      });
      ctx.tell(here, 'note', { text: 'crash' });
      ctx.toSelfLater('mine', { text: 'later' });
    };
    k.link('n2');
    await k.spawn(probe, { script: { note }, heard }, { onCrash: twice });
    k.kernel.tell(here, 'note', { text: 'go' });
    await k.host.advance(2000);
    expect(heard).to.deep.equal(['start', 'go', 'crash', 'start']);
    expect(k.kernel.openAsks).to.equal(0);
  });

  it('kernel: a watcher hears of a crash once, and at once where there is nothing to watch', async () => {
    const k = kit();
    const heard: Heard = [];
    const start = (ctx: Ctx): void => {
      ctx.watch(second, 'mine', { text: 'second ended' });
      ctx.watch(refTo(Probe, 'n1', 9), 'mine', { text: 'nobody there' });
    };
    await k.spawn(probe, { script: { note: bug }, heard: [] }, { shard: 1, onCrash: twice });
    await k.spawn(probe, { script: { start }, heard });
    await k.host.settle();
    expect(heard).to.deep.equal(['start', 'nobody there']);
    for (let i = 0; i < 2; i += 1) {
      k.kernel.tell(second, 'note', { text: 'x' });
      await k.host.advance(1000);
    }
    expect(heard).to.deep.equal(['start', 'nobody there', 'second ended']);
  });

  it('kernel: stopNode of an actor reaches the host', async () => {
    const k = kit();
    const note = (ctx: Ctx): void => ctx.stopNode('the disk failed');
    await k.spawn(probe, { script: { note }, heard: [] });
    k.kernel.tell(here, 'note', { text: 'x' });
    await k.host.settle();
    expect(k.host.stops).to.deep.equal(['the disk failed']);
  });
});
