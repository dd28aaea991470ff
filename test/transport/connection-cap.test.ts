// The bound of connections by address: what one client can change at will is one address.

import { EventEmitter } from 'node:events';
import { Server } from 'node:net';
import { expect } from 'chai';
import { ConnectionCap } from '../../transport/connection-cap.ts';

class FakeSocket extends EventEmitter {
  isRefused = false;
  readonly remoteAddress: string;

  constructor(remoteAddress: string) {
    super();
    this.remoteAddress = remoteAddress;
  }

  destroy(): void {
    this.isRefused = true;
  }
}

describe('connection cap', () => {
  const refusedOf = (addresses: readonly string[]): boolean[] => {
    const options = { total: 100, perAddress: 2, reserved: 0, isEncrypted: true, refused: '' };
    const server = new Server();
    new ConnectionCap(options).watch(server);
    return addresses.map((address) => {
      const socket = new FakeSocket(address);
      server.emit('connection', socket);
      return socket.isRefused;
    });
  };

  for (const [name, addresses, isThirdRefused] of [
    ['addresses of one /64 are one', ['2001:db8::1', '2001:db8::2', '2001:db8:0:0:9::'], true],
    ['another /64 is another', ['2001:db8::1', '2001:db8::2', '2001:db8:0:1::1'], false],
    ['IPv4 in the form of IPv6 is IPv4', ['10.0.0.1', '::ffff:10.0.0.1', '10.0.0.1'], true],
    ['addresses of IPv4 are apart', ['::ffff:10.0.0.1', '::ffff:10.0.0.2', '10.0.0.3'], false],
  ] as const)
    it(`connection cap: ${name} (limit=2)`, () => {
      expect(refusedOf(addresses)).to.deep.equal([false, false, isThirdRefused]);
    });
});
