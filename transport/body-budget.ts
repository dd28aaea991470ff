// Bodies of requests while they arrive and until they are answered: each within the limit of its
// path, all together within one budget, so that many clients with large bodies cannot fill the
// memory (rules SE-4, SE-24). A small body is always taken: those who are modest are served while
// others are refused.

import type { IncomingMessage } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { untilClosed } from './until-closed.ts';

type Done = (error: Error | null, body?: Uint8Array) => void;

/** A body of this size is not blamed for what all hold together. */
const modestBytes = 64 * 1024;

export class BodyBudget {
  readonly #bytesMax: number;
  readonly #replies = new WeakMap<FastifyRequest, FastifyReply>();
  #heldBytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Whose body is read is answered with `reply`. */
  expect(request: FastifyRequest, reply: FastifyReply): void {
    this.#replies.set(request, reply);
  }

  /** Bytes of all bodies that are held now. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** `done` gets the body, or an error with the code of the refusal. Once. */
  read(request: FastifyRequest, payload: IncomingMessage, done: Done): void {
    const limit = request.routeOptions.bodyLimit;
    const declared = Number(request.headers['content-length'] ?? 0);
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
      this.#heldBytes -= bytes;
    });
    if (declared > limit) return finish(tooLarge());
    payload.on('data', (chunk: Buffer) => {
      if (isOver) return;
      bytes += chunk.length;
      this.#heldBytes += chunk.length;
      if (bytes > limit) finish(tooLarge());
      else if (bytes > modestBytes && this.#heldBytes > this.#bytesMax) finish(overloaded());
      else chunks.push(chunk);
    });
    payload.on('error', (error) => finish(error));
    payload.on('end', () => finish(null, Buffer.concat(chunks)));
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
