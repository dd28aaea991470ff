// Lines of a stream as bytes, with bounded memory: what is held is one chunk and one line. gzip is
// recognised by its first two bytes (RFC 1952), so that it may also come through a pipe.

import { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';

const newline = 0x0a;
const carriageReturn = 0x0d;

/** The longest line, bytes: the hard limit of a value and room for its key. */
export const lineBytesMax = 17 * 1024 * 1024;

/** The chunks of `source`, unpacked if they are gzip. */
export async function* unpacked(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const iterator = source[Symbol.asyncIterator]();
  let head: Buffer = Buffer.alloc(0);
  while (head.length < 2) {
    const next = await iterator.next();
    if (next.done === true) break;
    head = Buffer.concat([head, next.value]);
  }
  const whole = rejoined(head, iterator);
  if (head[0] !== 0x1f || head[1] !== 0x8b) {
    yield* whole;
    return;
  }
  const gunzip = createGunzip();
  const packed = Readable.from(whole, { objectMode: false });
  packed.on('error', (error) => gunzip.destroy(error));
  yield* packed.pipe(gunzip) as AsyncIterable<Buffer>;
}

async function* rejoined(head: Buffer, rest: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  if (head.length > 0) yield head;
  for (;;) {
    const next = await rest.next();
    if (next.done === true) return;
    yield next.value;
  }
}

/** Lines without their ends (LF or CRLF); the last one needs none. Throws over the line limit. */
export async function* linesOf(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let held: Buffer[] = [];
  let heldBytes = 0;
  for await (const chunk of source) {
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(newline, start);
      if (end < 0) break;
      held.push(chunk.subarray(start, end));
      yield trimmed(held);
      held = [];
      heldBytes = 0;
      start = end + 1;
    }
    if (start < chunk.length) held.push(chunk.subarray(start));
    heldBytes += chunk.length - start;
    if (heldBytes > lineBytesMax) throw new Error(`a line is longer than ${lineBytesMax} bytes`);
  }
  if (heldBytes > 0) yield trimmed(held);
}

function trimmed(parts: readonly Buffer[]): Buffer {
  const [first] = parts;
  const line = parts.length === 1 && first !== undefined ? first : Buffer.concat(parts);
  return line.at(-1) === carriageReturn ? line.subarray(0, -1) : line;
}
