// What every link promises (transport/transport.ts), as one suite: direct, ring, TCP and simulated
// links run it, so that what holds in simulation holds between threads and machines.

import { expect } from 'chai';
import { refTo } from '../../runtime/actor.ts';
import type { Kernel } from '../../runtime/kernel.ts';
import { asked, Echo, EchoState, noise, spawnEcho } from '../kit-transport.ts';

/** Two kernels with the echo protocol, under different nodes, each with a link to the other. */
export interface Pair {
  readonly a: Kernel;
  readonly b: Kernel;
  /** Lets the world go on until `condition` holds. */
  readonly until: (condition: () => boolean) => Promise<void>;
  /** Cuts the links both ways; both kernels are told. */
  readonly sever: () => void;
  readonly close: () => Promise<void>;
}

/** Tests the links of `makePair`'s kernels, a fresh pair for each test. */
export function transportSuite(name: string, makePair: () => Promise<Pair>): void {
  describe(`transport: ${name}`, () => {
    let pair: Pair;

    beforeEach(async () => {
      pair = await makePair();
    });

    afterEach(() => pair.close());

    /** The outcome of a promise, while the world goes on. */
    async function outcome<T>(promise: Promise<T>): Promise<T> {
      let isThere = false;
      void promise.then(() => {
        isThere = true;
      });
      await pair.until(() => isThere);
      return promise;
    }

    async function echoAt(kernel: Kernel): Promise<EchoState> {
      const state = new EchoState();
      await outcome(spawnEcho(kernel, state));
      return state;
    }

    it('transport: an ask is answered, in both directions', async () => {
      const { a, b } = pair;
      await echoAt(a);
      await echoAt(b);
      const body = { number: 2 ** 53 - 1, bytes: noise(100) };
      const [there, back] = await outcome(
        Promise.all([asked(a, b.node, 'echo', body), asked(b, a.node, 'echo', body)]),
      );
      expect(there).to.deep.equal({ failure: undefined, reply: body });
      expect(back).to.deep.equal({ failure: undefined, reply: body });
    });

    it('transport: a message without a layout arrives as it was sent', async () => {
      const { a, b } = pair;
      await echoAt(b);
      const body = { text: 'grüß', list: [1, -1, 0.5, true, null], deep: { bytes: noise(5) } };
      const { reply } = await outcome(asked(a, b.node, 'shout', { body }));
      expect(reply).to.deep.equal({ body });
    });

    it('transport: an error arrives as code and fields', async () => {
      const { a, b } = pair;
      await echoAt(b);
      const { failure, reply } = await outcome(asked(a, b.node, 'refuse', {}));
      expect(failure).to.deep.equal({
        code: 'CONFLICT',
        fields: { version: 7, detail: 'no', live: true },
      });
      expect(reply).to.equal(undefined);
    });

    it('transport: messages arrive in order and once (messages=10000)', async () => {
      const { a, b } = pair;
      const state = await echoAt(b);
      const sent = Array.from({ length: 10_000 }, (_, number) => number);
      for (const number of sent) a.tell(refTo(Echo, b.node), 'note', { number });
      // Asked last, so answered when all before it were handled.
      await outcome(asked(a, b.node, 'echo', { number: 0, bytes: noise(1) }));
      expect(state.notes).to.deep.equal(sent);
    });

    it('transport: an ask waits behind what was told before it', async () => {
      const { a, b } = pair;
      const state = await echoAt(b);
      const seen: number[] = [];
      for (let number = 0; number < 100; number += 1) {
        a.tell(refTo(Echo, b.node), 'note', { number });
        const { reply } = await outcome(asked(a, b.node, 'echo', { number, bytes: noise(1) }));
        expect(reply?.number).to.equal(number);
        seen.push(state.notes.length);
      }
      expect(seen).to.deep.equal(Array.from({ length: 100 }, (_, i) => i + 1));
    });

    for (const length of [64 * 1024, 1024 * 1024])
      it(`transport: large values go both ways (bytes=${length})`, async () => {
        const { a, b } = pair;
        await echoAt(b);
        const body = { number: 1, bytes: noise(length) };
        const answers = await outcome(
          Promise.all([1, 2, 3].map((number) => asked(a, b.node, 'echo', { ...body, number }))),
        );
        expect(answers.map(({ reply }) => reply?.number)).to.deep.equal([1, 2, 3]);
        for (const { reply } of answers)
          expect(Buffer.compare(reply?.bytes ?? noise(0), body.bytes)).to.equal(0);
      });

    it('transport: both sides have bytes of their own', async () => {
      const { a, b } = pair;
      const state = await echoAt(b);
      const bytes = noise(1000);
      const answer = asked(a, b.node, 'echo', { number: 1, bytes });
      bytes.fill(0);
      const { reply } = await outcome(answer);
      expect(reply?.bytes).to.deep.equal(noise(1000));
      reply?.bytes.fill(0);
      expect(state.echoes[0]?.bytes).to.deep.equal(noise(1000));
    });

    it('transport: an ask without an answer ends with TIMEOUT', async () => {
      const { a, b } = pair;
      const state = await echoAt(b);
      const { failure } = await outcome(asked(a, b.node, 'hold', { number: 5 }, 500));
      expect(failure).to.deep.equal({ code: 'TIMEOUT', fields: { node: b.node, message: 'hold' } });
      expect(state.held).to.deep.equal([5]);
    });

    it('transport: a message that waited beyond its deadline is dropped', async () => {
      const { a, b } = pair;
      const state = new EchoState({ isSlow: true });
      const started = spawnEcho(b, state);
      const body = { number: 1, bytes: noise(1) };
      const [first, second] = await outcome(
        Promise.all([
          asked(a, b.node, 'echo', body, 10),
          asked(a, b.node, 'echo', { ...body, number: 2 }, 100),
        ]),
      );
      expect([first.failure?.code, second.failure?.code]).to.deep.equal(['TIMEOUT', 'TIMEOUT']);
      const third = asked(a, b.node, 'echo', { ...body, number: 3 });
      state.begin();
      await outcome(started);
      expect((await outcome(third)).reply?.number).to.equal(3);
      expect(state.echoes.map(({ number }) => number)).to.not.include(1);
    });

    it('transport: a full mailbox answers OVERLOADED and keeps what it has (capacity=4)', async () => {
      const { a, b } = pair;
      const state = new EchoState({ isSlow: true });
      const started = spawnEcho(b, state, { mailboxCapacity: 4 });
      const codes: string[] = [];
      const asks = [1, 2, 3, 4, 5, 6].map(async (number) => {
        const { failure } = await asked(a, b.node, 'echo', { number, bytes: noise(1) });
        codes.push(`${number} ${failure?.code ?? 'answered'}`);
      });
      await pair.until(() => codes.length === 2);
      state.begin();
      await outcome(started);
      await outcome(Promise.all(asks));
      expect(codes).to.deep.equal([
        '5 OVERLOADED',
        '6 OVERLOADED',
        '1 answered',
        '2 answered',
        '3 answered',
        '4 answered',
      ]);
    });

    it('transport: an actor that is not there answers NO_SUCH_ACTOR', async () => {
      const { a, b } = pair;
      await echoAt(b);
      const { failure } = await outcome(
        asked(a, refTo(Echo, b.node, 9), 'echo', { number: 1, bytes: noise(1) }),
      );
      expect(failure).to.deep.equal({
        code: 'NO_SUCH_ACTOR',
        fields: { node: b.node, actor: 'echo/9' },
      });
    });

    it('transport: a link that ends fails its open asks with UNREACHABLE', async () => {
      const { a, b } = pair;
      const state = await echoAt(b);
      const asks = [1, 2].map((number) => asked(a, b.node, 'hold', { number }));
      await pair.until(() => state.held.length === 2);
      pair.sever();
      const ends = await outcome(Promise.all(asks));
      expect(ends.map(({ failure }) => failure)).to.deep.equal([
        { code: 'UNREACHABLE', fields: { node: b.node } },
        { code: 'UNREACHABLE', fields: { node: b.node } },
      ]);
      expect(a.openAsks).to.equal(0);
    });
  });
}
