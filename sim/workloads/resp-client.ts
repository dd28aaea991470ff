// A simulated client of the Redis face: commands go to the gateway of a node as its edge would send
// them, over a connection of its own for each exchange of batches, and answers are read from their bytes.

import { RespGateway } from '../../actors/gateway/protocol.ts';
import { refTo } from '../../runtime/actor.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { errorTable, isErrorCode } from '../../runtime/errors.ts';
import type { SimCluster } from '../cluster.ts';
import type { Outcome } from '../history.ts';

/** An answer as it was read: an error is an object. */
export type Answer = string | number | null | readonly Answer[] | { readonly error: string };

export interface Answered {
  /** Of the last batch that was sent: `ok` says that every command has an answer. */
  readonly outcome: Outcome;
  readonly code: string | undefined;
  readonly answers: readonly Answer[];
}

export class RespClient {
  readonly #cluster: SimCluster;
  #connections = 0;

  constructor(cluster: SimCluster) {
    this.#cluster = cluster;
  }

  /** A connection to a node; its commands go one batch after the other. */
  connect(node: string): RespExchange {
    this.#connections += 1;
    return new RespExchange(this.#cluster, node, this.#connections);
  }
}

export class RespExchange {
  readonly #cluster: SimCluster;
  readonly #node: string;
  readonly #connection: number;

  constructor(cluster: SimCluster, node: string, connection: number) {
    this.#cluster = cluster;
    this.#node = node;
    this.#connection = connection;
    const start = { connection, remote: 'sim', local: 'sim' };
    cluster.tell(refTo(RespGateway, node), 'opened', start);
  }

  async run(commands: readonly (readonly string[])[], timeoutMs: number): Promise<Answered> {
    const answers: Answer[] = [];
    while (answers.length < commands.length) {
      const batch = commands.slice(answers.length).map((words) => ({
        ...{ args: words.map((word) => utf8.encode(word)), isTooLarge: false },
      }));
      const body = { connection: this.#connection, commands: batch };
      const target = refTo(RespGateway, this.#node);
      const answer = await this.#cluster.ask(target, 'run', body, timeoutMs);
      if (answer.kind === 'refused') return { outcome: 'fail', code: 'REFUSED', answers };
      if (answer.kind === 'lost') return { outcome: 'info', code: 'LOST', answers };
      if (answer.kind === 'failure') {
        const { code } = answer.failure;
        const isWithout = errorTable[code].effect === 'none';
        return { outcome: isWithout ? 'fail' : 'info', code, answers };
      }
      const { bytes, isLast } = answer.reply;
      answers.push(...readAnswers(utf8.decode(bytes)));
      // The gateway has started anew and does not know the connection: nothing was run.
      if (isLast) return { outcome: 'fail', code: 'CONNECTION_LOST', answers };
    }
    return { outcome: 'ok', code: undefined, answers };
  }

  close(): void {
    const closed = { connection: this.#connection };
    this.#cluster.tell(refTo(RespGateway, this.#node), 'closed', closed);
  }
}

export const isError = (answer: Answer | undefined): answer is { readonly error: string } =>
  typeof answer === 'object' && answer !== null && 'error' in answer;

/** What an error says of the effect of its command. */
export function outcomeOfError({ error }: { readonly error: string }): {
  readonly outcome: Outcome;
  readonly code: string;
} {
  const [prefix = '', word = ''] = error.split(' ', 2);
  const code = isErrorCode(word) ? word : prefix;
  const isUnknown = isErrorCode(code) && errorTable[code].effect !== 'none';
  return { outcome: isUnknown ? 'info' : 'fail', code };
}

/** Version 2 of the protocol; values are ASCII. */
function readAnswers(text: string): Answer[] {
  let at = 0;
  const line = (): string => {
    const end = text.indexOf('\r\n', at);
    const found = text.slice(at, end);
    at = end + 2;
    return found;
  };
  const read = (): Answer => {
    const [type = '', rest] = [text[at], line().slice(1)];
    if (type === '+') return rest;
    if (type === '-') return { error: rest };
    if (type === ':') return Number(rest);
    const length = Number(rest);
    if (length < 0) return null;
    if (type === '*') return Array.from({ length }, read);
    const value = text.slice(at, at + length);
    at += length + 2;
    return value;
  };
  const answers: Answer[] = [];
  while (at < text.length) answers.push(read());
  return answers;
}
