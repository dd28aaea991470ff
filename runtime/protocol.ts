// Message tables: what an actor understands, as a value and as types. The message is the API: the
// protocol.ts files hold all of them, and each name has a wire number that is never reused
// (test/golden/protocols.txt).
//
// A message is plain immutable data: no class instances, functions, Errors, Maps; bytes are
// Uint8Array. Hot messages declare a layout, a fixed sequence of typed fields, from which the
// codec derives both directions; all others travel as msgpack.

import type { Call, Later } from './actor.ts';

/** Field types of a fixed layout. `?` may be absent, `[]` is a list. u53 is a safe integer. */
export type FieldType =
  | 'u8'
  | 'u16'
  | 'u32'
  | 'u53'
  | 'f64'
  | 'bool'
  | 'bytes'
  | 'text'
  | 'u32?'
  | 'u53?'
  | 'bytes?'
  | 'text?'
  | 'bytes[]'
  | 'text[]'
  | 'u32[]'
  | 'u53[]';

type FieldOf<T> = [T] extends [number]
  ? 'u8' | 'u16' | 'u32' | 'u53' | 'f64'
  : [T] extends [boolean]
    ? 'bool'
    : [T] extends [string]
      ? 'text'
      : [T] extends [Uint8Array]
        ? 'bytes'
        : [T] extends [number | undefined]
          ? 'u32?' | 'u53?'
          : [T] extends [Uint8Array | undefined]
            ? 'bytes?'
            : [T] extends [string | undefined]
              ? 'text?'
              : [T] extends [readonly Uint8Array[]]
                ? 'bytes[]'
                : [T] extends [readonly string[]]
                  ? 'text[]'
                  : [T] extends [readonly number[]]
                    ? 'u32[]' | 'u53[]'
                    : Group<T>;

/** The fields of a message in wire order. */
export type Layout<T> = { readonly [K in keyof T]-?: FieldOf<T[K]> };

/** A layout without its message's type: name and type of each field, in wire order. */
export type FieldTable = readonly (readonly [string, FieldType | Group<unknown>])[];

/** A field that has fields itself: always there, perhaps, or a list of them. */
export interface Group<T> {
  readonly times: 'one' | 'maybe' | 'many';
  readonly fields: FieldTable;
  readonly [types]?: T;
}

const tableOf = (layout: object): FieldTable =>
  Object.entries(layout as Record<string, FieldType | Group<unknown>>);

export const group = <T>(layout: NoInfer<Layout<T>>): Group<T> => ({
  times: 'one',
  fields: tableOf(layout),
});

export const maybe = <T>(layout: NoInfer<Layout<T>>): Group<T | undefined> => ({
  times: 'maybe',
  fields: tableOf(layout),
});

export const many = <T>(layout: NoInfer<Layout<T>>): Group<readonly T[]> => ({
  times: 'many',
  fields: tableOf(layout),
});

function fields(layout: object | undefined): FieldTable | undefined {
  return layout === undefined ? undefined : tableOf(layout);
}

/**
 * How a full mailbox treats it. `control` is never dropped for user traffic, `background` waits
 * behind `user`. It also chooses the queue of a link between nodes.
 */
export type Lane = 'control' | 'user' | 'background';

export interface MessageOptions {
  /** Default `user`. */
  readonly lane?: Lane;
}

declare const types: unique symbol;

export interface Tell<Body> {
  readonly kind: 'tell';
  readonly tag: number;
  readonly lane: Lane;
  readonly layout: FieldTable | undefined;
  readonly [types]?: { body: Body };
}

export interface Ask<Request, Reply> {
  readonly kind: 'ask';
  readonly tag: number;
  readonly lane: Lane;
  readonly layout: FieldTable | undefined;
  readonly replyLayout: FieldTable | undefined;
  readonly isPeek: boolean;
  readonly [types]?: { request: Request; reply: Reply };
}

// eslint-disable-next-line @typescript-eslint/no-explicit-any
type AnyMessage = Tell<any> | Ask<any, any>;
export type MessageTable = Readonly<Record<string, AnyMessage>>;

/** A message for which no answer comes. `tag`: its number on the wire, unique in its protocol. */
export function tell<Body>(
  tag: number,
  options: MessageOptions & { readonly layout?: Layout<Body> } = {},
): Tell<Body> {
  return { kind: 'tell', tag, lane: options.lane ?? 'user', layout: fields(options.layout) };
}

/** A message that is answered once, or fails: with an error or at its deadline. */
export function ask<Request, Reply>(
  tag: number,
  options: MessageOptions & {
    readonly layout?: Layout<Request>;
    readonly replyLayout?: Layout<Reply>;
    /** It only reads, and is answered in the turn of its handler: see BaseContext.peek. */
    readonly isPeek?: boolean;
  } = {},
): Ask<Request, Reply> {
  return {
    kind: 'ask',
    tag,
    lane: options.lane ?? 'user',
    layout: fields(options.layout),
    replyLayout: fields(options.replyLayout),
    isPeek: options.isPeek ?? false,
  };
}

/** One message of one protocol, as links and codecs see it. */
export interface Descriptor {
  readonly actor: string;
  readonly actorId: number;
  readonly name: string;
  readonly kind: 'tell' | 'ask';
  readonly tag: number;
  readonly lane: Lane;
  readonly layout: FieldTable | undefined;
  readonly replyLayout: FieldTable | undefined;
  /** An actor of the same thread may have its answer within its own turn. */
  readonly isPeek: boolean;
}

export interface Protocol<Messages extends MessageTable = MessageTable> {
  /** The actor's name in its address. */
  readonly name: string;
  /** The actor's number on the wire. */
  readonly id: number;
  readonly messages: Messages;
  readonly descriptors: ReadonlyMap<string, Descriptor>;
}

/** Names the messages of an actor. `id` is the actor's number on the wire, never reused. */
export function protocol<const Messages extends MessageTable>(
  name: string,
  id: number,
  messages: Messages,
): Protocol<Messages> {
  const descriptors = new Map<string, Descriptor>();
  for (const [messageName, message] of Object.entries(messages)) {
    descriptors.set(messageName, {
      actor: name,
      actorId: id,
      name: messageName,
      kind: message.kind,
      tag: message.tag,
      lane: message.lane,
      layout: message.layout,
      replyLayout: message.kind === 'ask' ? message.replyLayout : undefined,
      isPeek: message.kind === 'ask' && message.isPeek,
    });
  }
  return { name, id, messages, descriptors };
}

export type BodyOf<M> =
  M extends Tell<infer Body> ? Body : M extends Ask<infer Request, unknown> ? Request : never;
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type ReplyOf<M> = M extends Ask<any, infer Reply> ? Reply : never;

export type TellNames<P> = {
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  [K in keyof P & string]: P[K] extends Tell<any> ? K : never;
}[keyof P & string];
export type AskNames<P> = {
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  [K in keyof P & string]: P[K] extends Ask<any, any> ? K : never;
}[keyof P & string];

/**
 * What an actor class implements: one function-typed property per message, so that parameters are
 * checked strictly. A handler is synchronous: it returns its reply, nothing, or a Later.
 */
export type Handlers<P> = {
  readonly [K in keyof P]: P[K] extends Ask<infer Request, infer Reply>
    ? (body: Request, call: Call) => Reply | Later<Reply>
    : P[K] extends Tell<infer Body>
      ? (body: Body, call: Call) => void | Later<void>
      : never;
};
