// Reads server-sent events (WHATWG HTML, 9.2.6) from chunks that may be cut anywhere. Bytes of an
// event that has not ended are kept, at most `eventBytesMax`.

export interface ServerEvent {
  /** `message` where the event names none. */
  readonly name: string;
  readonly data: string;
  /** The last id so far. */
  readonly id: string;
}

/** The largest value as base64 and its key. */
const eventBytesMax = 32 * 1024 * 1024;

export class EventStreamParser {
  readonly #decoder = new TextDecoder();
  #rest = '';
  #name = '';
  #data: string[] = [];
  #bytes = 0;
  #id: string;

  constructor(id = '') {
    this.#id = id;
  }

  /** The last id that came, also without an event. */
  get id(): string {
    return this.#id;
  }

  /** Events that end in this chunk. Throws where one is too large. */
  feed(chunk: Uint8Array): ServerEvent[] {
    const events: ServerEvent[] = [];
    const text = this.#rest + this.#decoder.decode(chunk, { stream: true });
    // A CR at the end may be half of a CR LF.
    const end = text.endsWith('\r') ? text.length - 1 : text.length;
    const lines = text.slice(0, end).split(/\r\n|\n|\r/);
    this.#rest = (lines.pop() ?? '') + text.slice(end);
    for (const line of lines) {
      const event = line === '' ? this.#dispatch() : this.#field(line);
      if (event !== undefined) events.push(event);
    }
    if (this.#bytes + this.#rest.length > eventBytesMax)
      throw new RangeError(`an event is longer than ${eventBytesMax} characters`);
    return events;
  }

  #field(line: string): undefined {
    const colon = line.indexOf(':');
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'event') this.#name = value;
    else if (field === 'id' && !value.includes('\0')) this.#id = value;
    else if (field === 'data') {
      this.#data.push(value);
      this.#bytes += value.length + 1;
    }
  }

  #dispatch(): ServerEvent | undefined {
    const name = this.#name === '' ? 'message' : this.#name;
    const data = this.#data;
    this.#name = '';
    this.#data = [];
    this.#bytes = 0;
    return data.length === 0 ? undefined : { name, data: data.join('\n'), id: this.#id };
  }
}
