// Bodies of requests while they arrive and until they are answered: each within the limit of its
// path, all together within one budget, so that many clients with large bodies cannot fill the
// memory (rules SE-4, SE-24). A small body is always taken: those who are modest are served while
// others are refused. Where clients have to say who they are, connections on which nobody has share
// half of it: a body is there before its token is looked at.

import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { untilClosed } from './until-closed.ts';

type Done = (error: Error | null, body?: Uint8Array) => void;

/** A body of this size is not blamed for what all hold together. */
const modestBytes = 64 * 1024;

export class BodyBudget {
  readonly #bytesMax: number;
  readonly #strangersBytesMax: number;
  readonly #replies = new WeakMap<FastifyRequest, FastifyReply>();
  readonly #known = new WeakSet<Socket>();
  #heldBytes = 0;
  /** Of these, what came while it was not known from whom. */
  #strangersBytes = 0;

  constructor(bytesMax: number, requiresLogin: boolean) {
    this.#bytesMax = bytesMax;
    this.#strangersBytesMax = requiresLogin ? Math.floor(bytesMax / 2) : bytesMax;
  }

  /** A token came over this connection that is known. */
  loggedIn(socket: Socket): void {
    this.#known.add(socket);
  }

  /** Whose body is read is answered with `reply`. */
  expect(request: FastifyRequest, reply: FastifyReply): void {
    this.#replies.set(request, reply);
  }

  /** `done` gets the body, or an error with the code of the refusal. Once. */
  read(request: FastifyRequest, payload: IncomingMessage, done: Done): void {
    const limit = request.routeOptions.bodyLimit;
    const declared = Number(request.headers['content-length'] ?? 0);
    const isStranger = !this.#known.has(payload.socket);
    const chunks: Buffer[] = [];
    let bytes = 0;
    let isOver = false;
    const finish = (error: Error | null, body?: Uint8Array): void => {
      if (isOver) return;
      isOver = true;
      done(error, body);
    };
    untilClosed(payload.socket, this.#replies.get(request)?.raw, () => {
      isOver = true;
      this.#hold(-bytes, isStranger);
    });
    if (declared > limit) return finish(tooLarge());
    payload.on('data', (chunk: Buffer) => {
      if (isOver) return;
      bytes += chunk.length;
      this.#hold(chunk.length, isStranger);
      if (bytes > limit) finish(tooLarge());
      else if (bytes > modestBytes && this.#isFull(isStranger)) finish(overloaded());
      else chunks.push(chunk);
    });
    payload.on('error', (error) => finish(error));
    payload.on('end', () => finish(null, Buffer.concat(chunks)));
  }

  #hold(bytes: number, isStranger: boolean): void {
    this.#heldBytes += bytes;
    if (isStranger) this.#strangersBytes += bytes;
  }

  #isFull(isStranger: boolean): boolean {
    if (this.#heldBytes > this.#bytesMax) return true;
    return isStranger && this.#strangersBytes > this.#strangersBytesMax;
  }
}

/** The codes that the edge turns into problems. */
function tooLarge(): Error {
  return Object.assign(new Error('the body is too large'), { code: 'FST_ERR_CTP_BODY_TOO_LARGE' });
}

function overloaded(): Error {
  const detail = 'requests that wait on this node hold too many bytes';
  return Object.assign(new Error(detail), { code: 'OVERLOADED' });
}
