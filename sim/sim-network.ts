// The network between simulated nodes. Every message crosses it as bytes: encoded by its sender,
// decoded by its receiver (rule SIM-5). A connection behaves as TCP with reconnects does: in order
// within one connection, nothing promised across two, at most once in all.
//
// Faults (rules 2.2, "net"): latency with a slow tail, loss, an answer that is lost after the
// request ran, clogged and cut directions, resets, full queues, and old bytes that come again after
// their connection has ended, which must be refused, and flipped bits, which frames must show.

import { crc32 } from '../runtime/bytes.ts';
import type { Envelope, Link, Router } from '../runtime/envelope.ts';
import { assert } from '../runtime/errors.ts';
import type { Prng } from '../runtime/prng.ts';
import type { SimProcess } from './process.ts';
import type { World } from './world.ts';

export interface NetworkOptions {
  /** One way: at least this, plus an exponential part of mean `meanMs`. */
  readonly minMs: number;
  readonly meanMs: number;
  /** One message in a thousand takes 50 times as long. */
  readonly hasSlowTail: boolean;
  /** Messages that a direction of a connection holds; one more is refused. */
  readonly queueLengthMax: number;
  /** A cut connection ends after this time. */
  readonly keepAliveMs: number;
}

/** What the network needs of the wire format. */
export interface WireCodec {
  readonly encode: (envelope: Envelope, nowMs: number) => Uint8Array;
  readonly decode: (
    bytes: Uint8Array,
    nowMs: number,
    via: Link,
    ends: { readonly from: string; readonly to: string },
  ) => Envelope;
  /** Whether a receiver of these bytes, in a frame with one bit flipped, notices it. */
  readonly noticesFlip?: (bytes: Uint8Array, place: number) => boolean;
}

/** A node process on the network. */
export interface NetworkEnd {
  readonly process: SimProcess;
  readonly monotonicMs: () => number;
  readonly deliver: (envelope: Envelope) => void;
  readonly linkLost: (link: Link) => void;
}

/** What happens to bytes that meet a cut: they wait for its end, or are gone. */
export type CutKind = 'hold' | 'drop';

export interface NetworkFaults {
  /** Chance that a message is lost, in one of three ways, 0 to 1. */
  lossRatio: number;
  /** Chance that delivered bytes come again later, 0 to 1. */
  replayRatio: number;
  /** Chance that a bit of a message flips behind TCP's own checks, 0 to 1. */
  corruptRatio: number;
}

interface Packet {
  readonly bytes: Uint8Array;
  readonly sequence: number;
  readonly readyMs: number;
}

const reconnectMs = 50;
const dialTimeoutMs = 1_000;

/** One direction of a connection. */
class Channel implements Link {
  readonly name: string;
  readonly from: string;
  readonly to: string;
  readonly connection: Connection;
  readonly queue: Packet[] = [];
  /** Asks whose answer gets lost on this direction. */
  readonly lostAnswers = new Set<number>();
  sent = 0;
  received = 0;
  lastReadyMs = 0;
  cloggedUntilMs = 0;
  isPumping = false;
  readonly #network: SimNetwork;

  constructor(network: SimNetwork, connection: Connection, from: string, to: string) {
    this.#network = network;
    this.connection = connection;
    this.from = from;
    this.to = to;
    this.name = `${from}>${to}#${connection.epoch}`;
  }

  readonly send = (envelope: Envelope): boolean => this.#network.send(this, envelope);
}

class Connection {
  readonly epoch: number;
  readonly out: Channel;
  readonly back: Channel;
  readonly dialer: SimProcess;
  target: SimProcess | undefined;
  /** `broken`: one end is gone and the other has not noticed yet. */
  state: 'dialing' | 'open' | 'broken' | 'closed' = 'dialing';

  constructor(network: SimNetwork, epoch: number, dialer: SimProcess, to: string) {
    this.epoch = epoch;
    this.dialer = dialer;
    this.out = new Channel(network, this, dialer.name, to);
    this.back = new Channel(network, this, to, dialer.name);
  }
}

export class SimNetwork {
  readonly faults: NetworkFaults = { lossRatio: 0, replayRatio: 0, corruptRatio: 0 };
  readonly #world: World;
  readonly #codec: WireCodec;
  readonly #options: NetworkOptions;
  readonly #random: Prng;
  readonly #ends = new Map<string, NetworkEnd>();
  readonly #connections = new Map<string, Connection>();
  readonly #retryAtMs = new Map<string, number>();
  readonly #cuts = new Map<string, CutKind>();
  #epochs = 0;
  /** Messages that went through, old bytes that were refused, and frames with a flipped bit. */
  delivered = 0;
  refused = 0;
  corrupted = 0;

  constructor(world: World, codec: WireCodec, options: NetworkOptions) {
    this.#world = world;
    this.#codec = codec;
    this.#options = options;
    this.#random = world.random.fork('network');
  }

  /** A node has started. */
  attach(end: NetworkEnd): void {
    this.#ends.set(end.process.name, end);
    // What still reaches for the process before this one gets a reset.
    for (const connection of this.#connectionsOf(end.process.name))
      if (connection.state === 'broken') this.#closeSoon(connection, this.latencyMs());
  }

  /** A node's process has ended; `isSilent`: its machine too, so nobody is told. */
  detach(name: string, isSilent: boolean): void {
    this.#ends.delete(name);
    for (const connection of this.#connectionsOf(name)) {
      connection.state = 'broken';
      const { keepAliveMs } = this.#options;
      this.#closeSoon(
        connection,
        isSilent ? this.#random.exponential(keepAliveMs) : this.latencyMs(),
      );
    }
  }

  routerOf(process: SimProcess, members: ReadonlySet<string>): Router {
    const linkTo = (node: string): Link | undefined =>
      node !== process.name && members.has(node) ? this.#linkTo(process, node) : undefined;
    return { linkTo, flush: () => undefined };
  }

  /** One way, drawn anew for each message. */
  latencyMs(): number {
    const { minMs, meanMs, hasSlowTail } = this.#options;
    const ms = minMs + this.#random.exponential(meanMs);
    return hasSlowTail && this.#random.chance(0.001) ? ms * 50 : ms;
  }

  // ---- faults ------------------------------------------------------------------------------

  /** Nothing gets from `from` to `to` until the cut is healed. */
  cut(from: string, to: string, kind: CutKind): void {
    const pair = `${from}>${to}`;
    this.#cuts.set(pair, kind);
    this.#world.after(this.#options.keepAliveMs, undefined, 'net.keep-alive', () => {
      if (!this.#cuts.has(pair)) return;
      for (const connection of this.#connectionsOf(from))
        if (connection.out.to === to || connection.back.to === to) this.#close(connection);
    });
  }

  isCut(from: string, to: string): boolean {
    return this.#cuts.has(`${from}>${to}`);
  }

  heal(from: string, to: string): void {
    this.#cuts.delete(`${from}>${to}`);
    for (const connection of this.#connectionsOf(from)) this.#pumpBoth(connection);
  }

  healAll(): void {
    this.#cuts.clear();
    for (const connection of this.#connections.values()) {
      connection.out.cloggedUntilMs = 0;
      connection.back.cloggedUntilMs = 0;
      this.#pumpBoth(connection);
    }
  }

  /** Freezes one direction; then all that waited comes at once. */
  clog(from: string, to: string, delayMs: number): void {
    const untilMs = this.#world.nowMs + delayMs;
    for (const { out, back } of this.#connectionsOf(from))
      for (const channel of [out, back])
        if (channel.from === from && channel.to === to) channel.cloggedUntilMs = untilMs;
  }

  /** Ends the connections between two nodes; what is on its way is lost. */
  reset(a: string, b: string): void {
    for (const connection of this.#connectionsOf(a))
      if (connection.out.to === b || connection.out.from === b) this.#close(connection);
  }

  // ---- connections ---------------------------------------------------------------------------

  #connectionsOf(name: string): Connection[] {
    return [...this.#connections.values()].filter(
      ({ out }) => out.from === name || out.to === name,
    );
  }

  #linkTo(dialer: SimProcess, to: string): Link | undefined {
    const pair = `${dialer.name}>${to}`;
    const known = this.#connections.get(pair);
    if (known !== undefined && known.dialer === dialer) return known.out;
    if ((this.#retryAtMs.get(pair) ?? 0) > this.#world.nowMs) return undefined;
    if (known !== undefined) this.#close(known);
    this.#epochs += 1;
    const connection = new Connection(this, this.#epochs, dialer, to);
    this.#connections.set(pair, connection);
    this.#dial(connection);
    return connection.out;
  }

  #dial(connection: Connection): void {
    const { from, to } = connection.out;
    const isBlocked = this.isCut(from, to) || this.isCut(to, from);
    const delayMs = isBlocked ? dialTimeoutMs : this.latencyMs() + this.latencyMs();
    this.#world.after(delayMs, connection.dialer, 'net.dialed', () => {
      if (connection.state !== 'dialing') return;
      const end = this.#ends.get(to);
      if (end === undefined || this.isCut(from, to) || this.isCut(to, from)) {
        this.#close(connection);
        return;
      }
      connection.state = 'open';
      connection.target = end.process;
      this.#pumpBoth(connection);
    });
  }

  #closeSoon(connection: Connection, delayMs: number): void {
    this.#world.after(delayMs, undefined, 'net.reset', () => this.#close(connection));
  }

  #close(connection: Connection): void {
    if (connection.state === 'closed') return;
    connection.state = 'closed';
    const { out, back, dialer, target } = connection;
    out.queue.length = 0;
    back.queue.length = 0;
    const pair = `${out.from}>${out.to}`;
    if (this.#connections.get(pair) === connection) this.#connections.delete(pair);
    this.#retryAtMs.set(pair, this.#world.nowMs + this.#random.exponential(reconnectMs));
    this.#tellLost(dialer, out);
    if (target !== undefined) this.#tellLost(target, back);
  }

  #tellLost(process: SimProcess, channel: Channel): void {
    const end = this.#ends.get(process.name);
    if (end === undefined || end.process !== process) return;
    this.#world.after(0, process, 'net.lost', () => end.linkLost(channel));
  }

  // ---- messages ------------------------------------------------------------------------------

  /** For the links. */
  send(channel: Channel, envelope: Envelope): boolean {
    const { connection } = channel;
    const sender = this.#ends.get(channel.from);
    if (connection.state === 'closed' || sender === undefined) return false;
    if (channel.queue.length >= this.#options.queueLengthMax) return false;
    const fate = this.#fateOf(channel, envelope);
    if (fate === 'refused') return false;
    // Encoded in any case: the codec is part of what is tested.
    const bytes = this.#codec.encode(envelope, sender.monotonicMs()).slice();
    if (fate === 'lost' || connection.state === 'broken') return true;
    const nowMs = this.#world.nowMs;
    channel.lastReadyMs = Math.max(channel.lastReadyMs, nowMs + this.latencyMs());
    channel.sent += 1;
    channel.queue.push({ bytes, sequence: channel.sent, readyMs: channel.lastReadyMs });
    this.#pump(channel);
    return true;
  }

  #fateOf(channel: Channel, { kind, askId }: Envelope): 'sent' | 'lost' | 'refused' {
    const isAnswer = kind === 'reply' || kind === 'error';
    if (isAnswer && channel.lostAnswers.delete(askId)) return 'lost';
    if (this.#cuts.get(`${channel.from}>${channel.to}`) === 'drop') return 'lost';
    if (!this.#random.chance(this.faults.lossRatio)) return 'sent';
    const way = this.#random.float();
    if (way < 0.25) return 'refused';
    if (way < 0.5 || kind !== 'ask') return 'lost';
    // It arrives and runs, but its caller never hears.
    const { out, back } = channel.connection;
    (channel === out ? back : out).lostAnswers.add(askId);
    return 'sent';
  }

  #pumpBoth({ out, back, state }: Connection): void {
    if (state !== 'open') return;
    this.#pump(out);
    this.#pump(back);
  }

  /** Schedules the delivery of the first packet, unless that is done or it cannot move now. */
  #pump(channel: Channel): void {
    const first = channel.queue[0];
    const { connection } = channel;
    if (channel.isPumping || first === undefined || connection.state !== 'open') return;
    if (this.isCut(channel.from, channel.to)) return;
    const receiver = channel === connection.out ? connection.target : connection.dialer;
    const readyMs = Math.max(first.readyMs, channel.cloggedUntilMs);
    channel.isPumping = true;
    this.#world.after(readyMs - this.#world.nowMs, receiver, 'net.deliver', () => {
      channel.isPumping = false;
      const isHeld = channel.cloggedUntilMs > this.#world.nowMs;
      if (connection.state === 'open' && !isHeld && !this.isCut(channel.from, channel.to)) {
        const packet = channel.queue.shift();
        if (packet !== undefined) this.#arrive(channel, packet);
      }
      this.#pump(channel);
    });
  }

  #arrive(channel: Channel, packet: Packet): void {
    const world = this.#world;
    world.trace.record(world.nowMicros, channel.to, 'message', crc32(packet.bytes));
    if (this.#random.chance(this.faults.corruptRatio)) {
      this.#corrupt(channel, packet);
      return;
    }
    this.#receive(channel, packet);
    if (!this.#random.chance(this.faults.replayRatio)) return;
    world.after(this.#random.exponential(2_000), undefined, 'net.replay', () => {
      const before = this.refused;
      this.#receive(channel, packet);
      assert(this.refused === before + 1, `old bytes of ${channel.name} were taken again`);
    });
  }

  /** The frame's checksum shows it, and nothing behind it can be trusted: the connection ends. */
  #corrupt({ connection, name }: Channel, { bytes }: Packet): void {
    const isNoticed = this.#codec.noticesFlip?.(bytes, this.#random.float()) ?? true;
    assert(isNoticed, `a flipped bit on ${name} was not noticed`);
    this.corrupted += 1;
    this.#close(connection);
  }

  /** Takes a packet only once and only within its own connection. */
  #receive(channel: Channel, { bytes, sequence }: Packet): void {
    const { connection, from, to } = channel;
    const end = this.#ends.get(to);
    const process = channel === connection.out ? connection.target : connection.dialer;
    const isOld = sequence <= channel.received || connection.state !== 'open';
    if (isOld || end === undefined || end.process !== process) {
      this.refused += 1;
      return;
    }
    channel.received = sequence;
    this.delivered += 1;
    const via = channel === connection.out ? connection.back : connection.out;
    end.deliver(this.#codec.decode(bytes, end.monotonicMs(), via, { from, to }));
  }
}
