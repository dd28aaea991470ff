// Reads of a socket into one array that all sockets of a thread share, copied out as long as they are.
// Node takes 64 KiB for each read and cuts them to what came, which costs more than the copy: a tenth
// of a GET without pipelining was malloc and the collector (docs/decisions/0029).
//
// Node has this for sockets that a program dials (`onread` of net.connect), not for those that a
// server accepts. What `onread` sets is set here on a socket that exists: two properties, known by
// the names of their symbols, and the array of the handle. Where a version of Node has them no more,
// and with TLS, whose own memory is read from, the socket is read by its 'data' events.

import { Socket, type SocketConstructorOpts } from 'node:net';
import { TLSSocket } from 'node:tls';

/** As many bytes as libuv offers to a read. */
const shared = new Uint8Array(64 * 1024);

interface Handle {
  readonly useUserBuffer?: (buffer: Uint8Array) => void;
}

type Internals = Record<symbol, unknown> & { readonly _handle?: Handle | null };

function symbolsOfOnread(): { readonly buffer: symbol; readonly callback: symbol } | undefined {
  const onread = { buffer: shared, callback: () => true };
  const example = new Socket({ onread } as SocketConstructorOpts);
  const known = Object.getOwnPropertySymbols(example);
  const buffer = known.find(({ description }) => description === 'kBuffer');
  const callback = known.find(({ description }) => description === 'kBufferCb');
  example.destroy();
  return buffer === undefined || callback === undefined ? undefined : { buffer, callback };
}

const symbols = symbolsOfOnread();

/**
 * `chunk` gets each read of a connected socket, bytes that nobody else has. `pause`, `resume` and all
 * events but 'data' stay as they are. False: read by 'data' events.
 */
export function readShared(socket: Socket, chunk: (bytes: Uint8Array) => void): boolean {
  const internals = socket as unknown as Internals;
  const handle = internals._handle;
  const isPlain = !(socket instanceof TLSSocket);
  if (symbols === undefined || !isPlain || typeof handle?.useUserBuffer !== 'function') {
    socket.on('data', (bytes: Buffer) => {
      // Plain bytes: a Buffer is a class of Node that must not reach actors.
      chunk(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    });
    return false;
  }
  internals[symbols.buffer] = shared;
  internals[symbols.callback] = (length: number): boolean => {
    chunk(shared.slice(0, length));
    return true;
  };
  handle.useUserBuffer(shared);
  return true;
}
