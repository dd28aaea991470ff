// What every command of kvctl shares: the client, the way of printing, and the meaning of its exit
// codes. Commands return nothing when all is well and throw an ExitError or a ClientError else.

import { readFileSync, statSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import Table from 'cli-table3';
import { HttpClient, type HttpClientOptions } from '../client/http-client.ts';
import type { ClientError, ClientTls } from '../client/http-exchange.ts';
import { type Key, parsedKey } from '../client/keys.ts';

/** interfaces of kvctl with the shell (docs/cli.md). */
export const exitCodes = {
  ok: 0,
  refused: 1,
  usage: 2,
  unreachable: 3,
  notFound: 4,
  outcomeUnknown: 5,
} as const;

/** Ends the command with this code; `message` goes to the standard error output unless empty. */
export class ExitError extends Error {
  readonly exitCode: number;

  constructor(exitCode: number, message: string) {
    super(message);
    this.name = 'ExitError';
    this.exitCode = exitCode;
  }
}

export function exitCodeOf(error: ClientError): number {
  if (error.isOutcomeUnknown) return exitCodes.outcomeUnknown;
  if (error.code === 'UNREACHABLE' && error.status === 0) return exitCodes.unreachable;
  if (error.code === 'NOT_FOUND' || error.code === 'NO_SUCH_NAMESPACE') return exitCodes.notFound;
  return error.status === 0 ? exitCodes.usage : exitCodes.refused;
}

/** The surroundings of one run: the process's, or a test's. */
export interface CommandIo {
  readonly stdin: Readable;
  readonly stdout: Writable;
  readonly stderr: Writable;
  readonly env: Readonly<Record<string, string | undefined>>;
  /**
   * From here to the call of what it answers, the command ends by itself where it is interrupted, or
   * nobody reads what it prints: it has something to undo. Absent: it is never interrupted.
   */
  readonly onInterrupt?: (interrupted: (why: string) => void) => () => void;
}

export const outputForms = ['table', 'json', 'jsonl', 'raw'] as const;
export type OutputForm = (typeof outputForms)[number];

/** Of `--timeout`. */
export const timeoutMsMax = 3_600_000;

/** Options that every command takes. */
export interface GlobalOptions {
  readonly output?: OutputForm;
  readonly consistency?: string;
  readonly ns?: string;
  readonly endpoint?: readonly string[];
  readonly quiet?: boolean;
  readonly timeout?: number;
  readonly tlsCa?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly tokenFile?: string;
  readonly base64Keys?: boolean;
}

/** Of a table; what is not there is shown as a dash. */
type Cell = string | number | null | undefined;

/** A control character of a key or a value would change the terminal, or the lines of the table. */
const printable = (text: string): string =>
  text.replaceAll(/\p{Cc}/gu, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`);

function readFile(path: string | undefined): string | undefined {
  try {
    return path === undefined ? undefined : readFileSync(path, 'utf8');
  } catch (error) {
    throw new ExitError(exitCodes.usage, (error as Error).message);
  }
}

/** Files of which it was said that others may read them, once however many commands a prompt runs. */
const warnedOf = new WeakMap<CommandIo, Set<string>>();

const defaultEndpoint = 'http://127.0.0.1:7000';

export class Invocation {
  readonly io: CommandIo;
  readonly isQuiet: boolean;
  readonly #options: GlobalOptions;

  constructor(io: CommandIo, options: GlobalOptions) {
    this.io = io;
    this.#options = options;
    this.isQuiet = options.quiet === true;
  }

  /** What `-o` asks for, or the command's own form. */
  form(usual: OutputForm, allowed: readonly OutputForm[] = ['table', 'json', 'raw']): OutputForm {
    const form = this.#options.output ?? usual;
    if (!allowed.includes(form))
      throw new ExitError(exitCodes.usage, `-o ${form}: expected one of ${allowed.join(', ')}`);
    return form;
  }

  /** What the options and the environment say of the cluster. */
  cluster(): { readonly endpoints: readonly string[]; readonly consistency: string | undefined } {
    const { consistency, endpoint } = this.#options;
    const fromEnv = (this.io.env['KVCTL_ENDPOINT'] ?? '').split(',').map((text) => text.trim());
    const named = endpoint ?? fromEnv.filter((text) => text !== '');
    return { endpoints: named.length > 0 ? named : [defaultEndpoint], consistency };
  }

  /** The files that the options and the environment name, read. */
  tls(): ClientTls {
    const { env } = this.io;
    const { tlsCa, tlsCert, tlsKey } = this.#options;
    return {
      ca: readFile(tlsCa ?? env['KVCTL_TLS_CA']),
      cert: readFile(tlsCert ?? env['KVCTL_TLS_CERT']),
      key: this.#readSecret(tlsKey ?? env['KVCTL_TLS_KEY']),
    };
  }

  /** The same of a file that only its owner should read. */
  #readSecret(path: string | undefined): string | undefined {
    const text = readFile(path);
    const stats = path === undefined ? undefined : statSync(path, { throwIfNoEntry: false });
    if (path === undefined || stats?.isFile() !== true || (stats.mode & 0o077) === 0) return text;
    const warned = warnedOf.get(this.io) ?? new Set();
    warnedOf.set(this.io, warned);
    if (!warned.has(path) && !this.isQuiet)
      this.io.stderr.write(`kvctl: ${path} may be read by others: chmod 600 ${path}\n`);
    warned.add(path);
    return text;
  }

  /** From the file that is named, or the environment: never from the command line (rule SE-28). */
  token(): string | undefined {
    const { env } = this.io;
    const file =
      this.#options.tokenFile ?? (env['KVCTL_TOKEN'] ? undefined : env['KVCTL_TOKEN_FILE']);
    const text = (file === undefined ? env['KVCTL_TOKEN'] : this.#readSecret(file))?.trim();
    if (text === undefined || (file === undefined && text === '')) return undefined;
    if (!/^[\x21-\x7e]{1,512}$/.test(text))
      throw new ExitError(exitCodes.usage, `${file ?? 'KVCTL_TOKEN'}: expected a token`);
    return text;
  }

  /** The namespace that is named; undefined where none is. */
  get namespace(): string | undefined {
    return this.#options.ns;
  }

  /** A key or prefix that is given: text, or with --base64-keys its bytes. `where`: before an error. */
  key(text: string, where = ''): Key {
    if (this.#options.base64Keys !== true) return text;
    const key = parsedKey({ base64: text });
    if (key !== undefined) return key;
    const problem = `${where}--base64-keys: expected padded base64, found ${text}`;
    throw new ExitError(exitCodes.usage, problem);
  }

  /** Over all attempts of a request, milliseconds; undefined: the command's own. */
  get timeoutMs(): number | undefined {
    return this.#options.timeout;
  }

  /** Of every request. */
  get headers(): Readonly<Record<string, string>> {
    const { consistency, ns } = this.#options;
    const token = this.token();
    return {
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(consistency === undefined ? {} : { 'consistency-level': consistency }),
      ...(ns === undefined ? {} : { 'x-namespace': ns }),
    };
  }

  /** What requests carry, whom they believe, and how long they may take where the options say. */
  terms(): Pick<HttpClientOptions, 'headers' | 'deadlineMs'> & { readonly tls: ClientTls } {
    const { timeoutMs, headers } = this;
    const deadline = timeoutMs === undefined ? {} : { deadlineMs: timeoutMs };
    return { headers, tls: this.tls(), ...deadline };
  }

  /** Runs `work` with a client that is closed afterwards. */
  async withClient<Result>(
    work: (client: HttpClient) => Promise<Result>,
    changed: Partial<HttpClientOptions> = {},
  ): Promise<Result> {
    const { timeout } = this.#options;
    const client = new HttpClient({
      endpoints: this.cluster().endpoints,
      tls: this.tls(),
      headers: this.headers,
      ...changed,
      ...(timeout === undefined ? {} : { deadlineMs: timeout }),
    });
    try {
      return await work(client);
    } finally {
      client.close();
    }
  }

  /** To the standard output; waits while its reader is behind. Nothing of it is lost by `-q`. */
  async write(data: string | Uint8Array): Promise<void> {
    const { stdout } = this.io;
    if (stdout.write(data)) return;
    await new Promise<void>((resolve) => {
      stdout.once('drain', resolve);
      stdout.once('close', resolve);
    });
  }

  /** Words for a person: silent with `-q`. */
  async say(text: string): Promise<void> {
    if (!this.isQuiet) await this.write(`${text}\n`);
  }

  async table(head: readonly string[], rows: readonly (readonly Cell[])[]): Promise<void> {
    const table = new Table({ head: [...head], style: { head: [], border: [] } });
    for (const row of rows) table.push(row.map((cell) => printable(String(cell ?? '-'))));
    await this.write(`${table.toString()}\n`);
  }

  json(value: unknown): Promise<void> {
    return this.write(`${JSON.stringify(value, null, 2)}\n`);
  }
}
