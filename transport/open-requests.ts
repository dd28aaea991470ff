// Requests of HTTP connections that are under way, and answers that nobody has taken yet. Node parses
// all requests of a chunk at once, so a client that pipelines could have thousands of large answers
// made for a few kilobytes: a connection has a number of open requests, and the answers that wait on
// all connections have one budget (limits table, rule SE-24).
//
// The first answer of a connection is never refused for what others leave unread.

import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { untilClosed } from './until-closed.ts';

/** An answer of this size is not blamed for what all hold together. */
const modestBytes = 64 * 1024;

/** Of one connection. */
interface Load {
  requests: number;
  unreadBytes: number;
}

export class OpenRequests {
  readonly #requestsMax: number;
  readonly #unreadBytesMax: number;
  readonly #loads = new WeakMap<Socket, Load>();
  #unreadBytes = 0;

  /** Requests of one connection; bytes of answers of all. */
  constructor(requestsMax: number, unreadBytesMax: number) {
    this.#requestsMax = requestsMax;
    this.#unreadBytesMax = unreadBytesMax;
  }

  /** Until the response closes, or the connection; the detail of the refusal where it is one too many. */
  begin(socket: Socket, response: ServerResponse): string | undefined {
    const load = this.#loadOf(socket);
    if (load.requests >= this.#requestsMax)
      return `a connection has at most ${this.#requestsMax} requests under way`;
    if (load.unreadBytes > 0 && this.#unreadBytes > this.#unreadBytesMax) return tooMuchUnread;
    load.requests += 1;
    untilClosed(socket, response, () => {
      load.requests -= 1;
    });
    return undefined;
  }

  /** The detail of the refusal where so large an answer may not wait, too. */
  refusalOf(socket: Socket, bytes: number): string | undefined {
    if (bytes <= modestBytes || this.#loadOf(socket).unreadBytes === 0) return undefined;
    return this.#unreadBytes + bytes > this.#unreadBytesMax ? tooMuchUnread : undefined;
  }

  /** Counts an answer until it has left. */
  answered(socket: Socket, response: ServerResponse, bytes: number): void {
    if (socket.destroyed) return;
    const load = this.#loadOf(socket);
    load.unreadBytes += bytes;
    this.#unreadBytes += bytes;
    untilClosed(socket, response, () => {
      load.unreadBytes -= bytes;
      this.#unreadBytes -= bytes;
    });
  }

  #loadOf(socket: Socket): Load {
    const known = this.#loads.get(socket);
    if (known !== undefined) return known;
    const load = { requests: 0, unreadBytes: 0 };
    this.#loads.set(socket, load);
    return load;
  }
}

const tooMuchUnread = 'answers that nobody has taken yet hold too many bytes on this node';
