// Envelopes to bytes and back, the same for every link between threads and nodes.
//
//   u8 kind | u8 flags | u16 actor | u16 message | u16 shard | u32 ask | u32 milliseconds left
//   [text trace] | body
//
// A body has the fixed layout of its message or is msgpack; a reply is found by the actor and
// message numbers of its ask, which it repeats. Deadlines travel as the time that is left, so that
// clocks need not agree (TR-4).

import { ByteReader, ByteWriter } from '../runtime/bytes.ts';
import type { Envelope, EnvelopeKind, Link } from '../runtime/envelope.ts';
import { assert, type Failure, failure, isErrorCode, KvError } from '../runtime/errors.ts';
import type { Descriptor, FieldTable, Protocol } from '../runtime/protocol.ts';
import { type LayoutCodec, layoutCodec } from './layout.ts';
import { decodeMsgpack, encodeMsgpack } from './msgpack.ts';

const kinds: readonly EnvelopeKind[] = ['tell', 'ask', 'reply', 'error'];
const traceFlag = 1;
const noDeadline = 0xffff_ffff;

interface MessageCodec {
  readonly descriptor: Descriptor;
  readonly body: LayoutCodec | undefined;
  readonly reply: LayoutCodec | undefined;
}

const codecOf = (layout: FieldTable | undefined): LayoutCodec | undefined =>
  layout === undefined ? undefined : layoutCodec(layout);

export class Codec {
  readonly #byTag = new Map<number, MessageCodec>();
  readonly #byDescriptor = new Map<Descriptor, MessageCodec>();
  readonly #scratch = new ByteWriter(4096);

  constructor(protocols: readonly Protocol[]) {
    for (const { descriptors } of protocols)
      for (const descriptor of descriptors.values()) {
        const { layout, replyLayout } = descriptor;
        const message = { descriptor, body: codecOf(layout), reply: codecOf(replyLayout) };
        const tag = wireTag(descriptor.actorId, descriptor.tag);
        assert(!this.#byTag.has(tag), `two messages with the number of ${descriptor.name}`);
        this.#byTag.set(tag, message);
        this.#byDescriptor.set(descriptor, message);
      }
  }

  /** Appends the envelope. `nowMs`: this thread's monotonic clock. */
  encodeEnvelope(writer: ByteWriter, envelope: Envelope, nowMs: number): void {
    const { descriptor, kind, trace, deadlineMs } = envelope;
    assert(descriptor !== undefined, `message ${envelope.name} never leaves its thread`);
    writer.u8(kinds.indexOf(kind));
    writer.u8(trace === '' ? 0 : traceFlag);
    writer.u16(descriptor.actorId);
    writer.u16(descriptor.tag);
    writer.u16(envelope.shard);
    writer.u32(envelope.askId);
    writer.u32(
      deadlineMs === Infinity
        ? noDeadline
        : Math.min(noDeadline - 1, Math.max(0, Math.ceil(deadlineMs - nowMs))),
    );
    if (trace !== '') writer.text(trace);
    if (kind === 'error') writer.raw(encodeMsgpack(envelope.failure ?? failure('BUG')));
    else this.#writeBody(writer, this.#messageOf(descriptor), kind === 'reply', envelope.body);
  }

  /** `bytes`: one whole envelope. BAD_REQUEST for what this program cannot read. */
  decodeEnvelope(
    bytes: Uint8Array,
    nowMs: number,
    via: Link | undefined,
    from: string,
    to: string,
  ): Envelope {
    const reader = new ByteReader(bytes);
    const kind = kinds[reader.u8()];
    const flags = reader.u8();
    const actorId = reader.u16();
    const tag = reader.u16();
    const message = this.#byTag.get(wireTag(actorId, tag));
    if (kind === undefined || message === undefined)
      throw new KvError('BAD_REQUEST', { detail: `unknown message ${actorId}/${tag}` });
    const { descriptor } = message;
    if ((kind === 'tell') !== (descriptor.kind === 'tell'))
      throw new KvError('BAD_REQUEST', { detail: `${descriptor.name} is no ${kind}` });
    const shard = reader.u16();
    const askId = reader.u32();
    const leftMs = reader.u32();
    const trace = (flags & traceFlag) === 0 ? '' : reader.text();
    const rest = bytes.subarray(reader.at);
    return {
      kind,
      node: to,
      actor: descriptor.actor,
      shard,
      name: descriptor.name,
      descriptor,
      from,
      askId,
      deadlineMs: leftMs === noDeadline ? Infinity : nowMs + leftMs,
      via: kind === 'ask' ? via : undefined,
      trace,
      body: kind === 'error' ? undefined : readBody(message, kind === 'reply', rest),
      failure: kind === 'error' ? readFailure(rest) : undefined,
    };
  }

  /** What the other side of a link would get. */
  transcode(descriptor: Descriptor, isReply: boolean, body: unknown): unknown {
    const message = this.#messageOf(descriptor);
    const writer = this.#scratch;
    writer.reset();
    this.#writeBody(writer, message, isReply, body);
    return readBody(message, isReply, writer.view());
  }

  #messageOf(descriptor: Descriptor): MessageCodec {
    const message = this.#byDescriptor.get(descriptor);
    assert(message !== undefined, `${descriptor.actor}.${descriptor.name} is not registered`);
    return message;
  }

  #writeBody(writer: ByteWriter, message: MessageCodec, isReply: boolean, body: unknown): void {
    const layout = isReply ? message.reply : message.body;
    if (layout !== undefined) layout.write(writer, body as object);
    else writer.raw(encodeMsgpack(body));
  }
}

const wireTag = (actorId: number, tag: number): number => actorId * 0x1_0000 + tag;

function readBody(message: MessageCodec, isReply: boolean, bytes: Uint8Array): unknown {
  const layout = isReply ? message.reply : message.body;
  if (layout === undefined) return decodeMsgpack(bytes);
  const reader = new ByteReader(bytes);
  const body = layout.read(reader);
  if (reader.left > 0)
    throw new KvError('BAD_REQUEST', { detail: `${reader.left} bytes behind a message` });
  return body;
}

function readFailure(bytes: Uint8Array): Failure {
  const read = decodeMsgpack(bytes) as { code?: unknown; fields?: unknown } | null;
  const { code, fields } = read ?? {};
  if (typeof code !== 'string' || !isErrorCode(code))
    throw new KvError('BAD_REQUEST', { detail: 'an error without a known code' });
  const plain: Record<string, string | number | boolean> = {};
  for (const [name, value] of Object.entries((fields ?? {}) as Record<string, unknown>))
    if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean')
      plain[name] = value;
  return failure(code, plain);
}
