// A bounded mailbox with lanes. What belongs to the actor itself (answers, timers, messages to self)
// goes first, then control messages of others; both have a bound of their own, so that user traffic
// can never crowd them out. Background work goes last, but gets one turn in eight so that it cannot
// starve (style rule 1.5).

import type { Envelope } from './envelope.ts';
import type { Lane } from './protocol.ts';

/** A growing ring: push and shift without moving elements. */
export class Ring<T> {
  #slots: (T | undefined)[] = new Array<T | undefined>(16);
  #head = 0;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  push(item: T): void {
    if (this.#length === this.#slots.length) this.#grow();
    this.#slots[(this.#head + this.#length) & (this.#slots.length - 1)] = item;
    this.#length += 1;
  }

  shift(): T | undefined {
    if (this.#length === 0) return undefined;
    const item = this.#slots[this.#head];
    this.#slots[this.#head] = undefined;
    this.#head = (this.#head + 1) & (this.#slots.length - 1);
    this.#length -= 1;
    return item;
  }

  clear(): void {
    this.#slots = new Array<T | undefined>(16);
    this.#head = 0;
    this.#length = 0;
  }

  #grow(): void {
    const grown = new Array<T | undefined>(this.#slots.length * 2);
    for (let i = 0; i < this.#length; i += 1)
      grown[i] = this.#slots[(this.#head + i) & (this.#slots.length - 1)];
    this.#slots = grown;
    this.#head = 0;
  }
}

/** Of the own lane and of the control lane each. */
const controlCapacity = 65_536;
/** Every so many messages the background lane goes before the user lane. */
const backgroundTurn = 8;

export class Mailbox {
  readonly capacity: number;
  readonly #own = new Ring<Envelope>();
  readonly #control = new Ring<Envelope>();
  readonly #user = new Ring<Envelope>();
  readonly #background = new Ring<Envelope>();
  #turns = 0;

  /** `capacity`: messages in the user lane, and again in the background lane. */
  constructor(capacity: number) {
    this.capacity = capacity;
  }

  get length(): number {
    return this.#own.length + this.#control.length + this.#user.length + this.#background.length;
  }

  /** Messages of the actor to itself and answers that wait. */
  get ownLength(): number {
    return this.#own.length;
  }

  /** False: the lane is full and the message was not taken. */
  push(envelope: Envelope, lane: Lane): boolean {
    const ring =
      lane === 'user' ? this.#user : lane === 'control' ? this.#control : this.#background;
    if (ring.length >= (lane === 'control' ? controlCapacity : this.capacity)) return false;
    ring.push(envelope);
    return true;
  }

  /** A message of the actor to itself, or an answer that it waits for. */
  pushOwn(envelope: Envelope): boolean {
    if (this.#own.length >= controlCapacity) return false;
    this.#own.push(envelope);
    return true;
  }

  shift(): Envelope | undefined {
    if (this.#own.length > 0) return this.#own.shift();
    if (this.#control.length > 0) return this.#control.shift();
    this.#turns += 1;
    if (this.#turns % backgroundTurn === 0 && this.#background.length > 0)
      return this.#background.shift();
    return this.#user.shift() ?? this.#background.shift();
  }

  shiftOwn(): Envelope | undefined {
    return this.#own.shift();
  }

  /** Own messages and answers die with the actor that waits for them. */
  clearOwn(): void {
    this.#own.clear();
  }
}
