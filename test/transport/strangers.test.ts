// Who gives up a place among the connections that have not said who they are.

import { EventEmitter } from 'node:events';
import { Server, type Socket } from 'node:net';
import { expect } from 'chai';
import { Strangers } from '../../transport/strangers.ts';

let lastPort = 0;

class FakeSocket extends EventEmitter {
  isEnded = false;
  readonly remoteAddress: string;
  readonly remotePort = (lastPort += 1);

  constructor(remoteAddress: string) {
    super();
    this.remoteAddress = remoteAddress;
  }

  destroy(): void {
    this.isEnded = true;
    this.emit('close');
  }
}

describe('strangers', () => {
  let server: Server;
  let strangers: Strangers;
  beforeEach(() => {
    server = new Server();
    strangers = new Strangers(3);
    strangers.watch(server);
  });

  const come = (address: string): FakeSocket => {
    const socket = new FakeSocket(address);
    server.emit('connection', socket);
    return socket;
  };
  const known = (socket: FakeSocket): void => strangers.known(socket as unknown as Socket);

  it('strangers: at the limit all stay, one over it the oldest of the address with most goes', () => {
    const one = come('10.0.0.1');
    const many = [come('10.0.0.2'), come('10.0.0.2')];
    expect([one, ...many].map(({ isEnded }) => isEnded)).to.deep.equal([false, false, false]);
    const last = come('10.0.0.3');
    expect([one, ...many, last].map(({ isEnded }) => isEnded)).to.deep.equal([
      ...[false, true, false, false],
    ]);
  });

  it('strangers: a /64 of IPv6 is one address', () => {
    const other = come('10.0.0.1');
    const first = come('2001:db8::1');
    come('2001:db8::2');
    come('10.0.0.9');
    expect([other.isEnded, first.isEnded]).to.deep.equal([false, true]);
  });

  it('strangers: whoever has said who he is holds no place, and neither does one that has gone', () => {
    const member = come('10.0.0.1');
    known(member);
    known(member);
    const gone = come('10.0.0.1');
    gone.destroy();
    const left = [come('10.0.0.1'), come('10.0.0.1'), come('10.0.0.1')];
    expect([member, ...left].some(({ isEnded }) => isEnded)).to.equal(false);
    member.emit('close');
    come('10.0.0.1');
    expect([member, ...left].map(({ isEnded }) => isEnded)).to.deep.equal([
      ...[false, true, false, false],
    ]);
  });

  it('strangers: those that are gone before anybody asks for their ends are no lasting burden', () => {
    // Of a connection that was reset at once nobody knows the ends any more.
    const resets = Array.from({ length: 9 }, () => {
      const socket = new FakeSocket('');
      Object.assign(socket, { remoteAddress: undefined, remotePort: undefined });
      server.emit('connection', socket);
      return socket;
    });
    for (const socket of resets) socket.emit('close');
    const left = [come('10.0.0.1'), come('10.0.0.1'), come('10.0.0.2')];
    come('10.0.0.3');
    expect(left.map(({ isEnded }) => isEnded)).to.deep.equal([true, false, false]);
  });

  it('strangers: of several with the same ends the newest counts', () => {
    const same = [1, 2].map(() => {
      const socket = new FakeSocket('10.0.0.1');
      Object.assign(socket, { remotePort: 0 });
      server.emit('connection', socket);
      return socket;
    });
    const [first, second] = same as [FakeSocket, FakeSocket];
    first.emit('close');
    known(second);
    const left = [come('10.0.0.2'), come('10.0.0.3'), come('10.0.0.3')];
    expect([second, ...left].some(({ isEnded }) => isEnded)).to.equal(false);
    come('10.0.0.4');
    expect(left.map(({ isEnded }) => isEnded)).to.deep.equal([false, true, false]);
  });
});
