// Many rows to the standard output in bounded memory: as tables of some hundred rows, as one JSON
// array, or as JSON lines. Between rows there may be notes: a line of words in the table form, an
// element like the others in JSON.

import type { Invocation, OutputForm } from './invocation.ts';

/** A table is printed when it has so many rows: its columns are as wide as its widest cell. */
const tableRows = 500;

export class Rows {
  readonly #invocation: Invocation;
  readonly #form: OutputForm;
  readonly #head: readonly string[];
  #waiting: (readonly (string | number | undefined)[])[] = [];
  #isBegun = false;

  constructor(invocation: Invocation, form: OutputForm, head: readonly string[]) {
    this.#invocation = invocation;
    this.#form = form;
    this.#head = head;
  }

  /** `json`: the row as a JSON text without newlines. */
  async add(row: readonly (string | number | undefined)[], json: string): Promise<void> {
    if (this.#form !== 'table') return this.#element(json);
    this.#waiting.push(this.#head.map((_, i) => row[i]));
    if (this.#waiting.length >= tableRows) await this.#flush();
  }

  async note(text: string, json: string): Promise<void> {
    if (this.#form !== 'table') return this.#element(json);
    await this.#flush();
    await this.#invocation.say(text);
  }

  async end(): Promise<void> {
    if (this.#form === 'json') await this.#invocation.write(this.#isBegun ? '\n]\n' : '[]\n');
    await this.#flush();
  }

  async #element(json: string): Promise<void> {
    const isFirst = !this.#isBegun;
    this.#isBegun = true;
    if (this.#form === 'jsonl') await this.#invocation.write(`${json}\n`);
    else await this.#invocation.write(`${isFirst ? '[' : ','}\n${json}`);
  }

  async #flush(): Promise<void> {
    if (this.#waiting.length > 0) await this.#invocation.table(this.#head, this.#waiting);
    this.#waiting = [];
  }
}
