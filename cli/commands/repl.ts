// kvctl without a command: a prompt. Each line is a command line as the shell would take it, with
// quotes; settings of the session (`consistency ONE`) stand for the options that would repeat.
// History stays in KVCTL_HISTFILE, or ~/.kvctl_history; a line that begins with a space is not kept,
// and so is none that holds a token or password option.

import { appendFileSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { levels, parseLevel } from '../../actors/model/consistency.ts';
import { wholeNumber } from './data.ts';
import { type CommandIo, exitCodes, outputForms, timeoutMsMax } from './invocation.ts';

export interface ReplOptions {
  readonly io: CommandIo;
  /** Options of the line that started it; they hold for every command. */
  readonly args: readonly string[];
  /** Runs one command line; never throws. */
  readonly run: (args: readonly string[]) => Promise<number>;
  /** Words that may begin a line. */
  readonly commands: readonly string[];
}

/** The option that a setting stands for, and what it may be. */
interface Setting {
  readonly option: string;
  readonly expected: string;
  readonly fits: (value: string) => boolean;
}

const settings: Readonly<Record<string, Setting>> = {
  consistency: {
    option: '--consistency',
    expected: `one of ${levels.join(', ')}`,
    fits: isTakenBy(parseLevel),
  },
  output: {
    option: '--output',
    expected: `one of ${outputForms.join(', ')}`,
    fits: (value) => outputForms.some((form) => form === value),
  },
  ns: { option: '--ns', expected: 'a name', fits: (value) => value !== '' },
  timeout: {
    option: '--timeout',
    expected: `a whole number of milliseconds from 1 to ${timeoutMsMax}`,
    fits: isTakenBy(wholeNumber(1, timeoutMsMax)),
  },
};

function isTakenBy(parse: (value: string) => unknown): Setting['fits'] {
  return (value) => {
    try {
      parse(value);
      return true;
    } catch {
      return false;
    }
  };
}

const historyMax = 1000;
const secret = /--?(token|password|auth)\b/i;
const help = `commands are those of kvctl; \`help\` lists them
consistency LEVEL, output FORM, ns NAME, timeout MS   hold for the commands that follow
settings   what holds now
quit       or Ctrl-D
`;

/** Answers the exit code of the last command. */
export async function runRepl({ io, args, run, commands }: ReplOptions): Promise<number> {
  const isTerminal = (io.stdin as { isTTY?: boolean }).isTTY === true;
  const historyFile = historyPath(io);
  const reader = createInterface({
    input: io.stdin,
    output: isTerminal ? io.stdout : undefined,
    prompt: isTerminal ? 'kvd> ' : '',
    history: isTerminal ? readHistory(historyFile) : [],
    historySize: historyMax,
    removeHistoryDuplicates: true,
    completer: (line: string): [string[], string] => complete(line, commands),
  } as Parameters<typeof createInterface>[0]);
  const session = new Session(io, args, run);
  if (isTerminal) io.stdout.write('kvctl: type `help`, or Ctrl-D to leave\n');
  await eachLine(reader, async (line) => {
    if (isTerminal && isKept(line)) keep(historyFile, line);
    return session.take(line);
  });
  return session.lastCode;
}

/** Lines one after the other: the next is taken when the last one is done. */
async function eachLine(
  reader: Interface,
  take: (line: string) => Promise<'more' | 'quit'>,
): Promise<void> {
  reader.prompt();
  for await (const line of reader) {
    if ((await take(line)) === 'quit') break;
    reader.prompt();
  }
  reader.close();
}

class Session {
  readonly #io: CommandIo;
  readonly #args: readonly string[];
  readonly #run: (args: readonly string[]) => Promise<number>;
  readonly #values = new Map<string, string>();
  lastCode = 0;

  constructor(
    io: CommandIo,
    args: readonly string[],
    run: (args: readonly string[]) => Promise<number>,
  ) {
    this.#io = io;
    this.#args = args;
    this.#run = run;
  }

  async take(line: string): Promise<'more' | 'quit'> {
    const words = splitWords(line);
    if (words === undefined) {
      this.#io.stderr.write('kvctl: a quote is not closed\n');
      return 'more';
    }
    const [first = '', second, third] = words;
    if (first === '' || first.startsWith('#')) return 'more';
    if (first === 'quit' || first === 'exit') return 'quit';
    if (first === 'settings') this.#show();
    else if (isSetting(first, second, third)) this.#set(first, second);
    else {
      if (first === 'help' && second === undefined) this.#io.stdout.write(help);
      const given = [...this.#values].flatMap(([name, value]) => [
        (settings[name] as Setting).option,
        value,
      ]);
      this.lastCode = await this.#run([...this.#args, ...given, ...words]);
    }
    return 'more';
  }

  #set(name: string, value: string | undefined): void {
    const { expected, fits } = settings[name] as Setting;
    if (value !== undefined && !fits(value)) {
      this.#io.stderr.write(`kvctl: ${name}: expected ${expected}, found ${value}\n`);
      this.lastCode = exitCodes.usage;
      return;
    }
    if (value === undefined) this.#values.delete(name);
    else this.#values.set(name, value);
    this.lastCode = exitCodes.ok;
    this.#show();
  }

  #show(): void {
    for (const name of Object.keys(settings))
      this.#io.stdout.write(`${name} ${this.#values.get(name) ?? '(default)'}\n`);
  }
}

/** `ns list` is a command, as are the others of `ns`, which have a name after them. */
const isSetting = (first: string, second: string | undefined, third: string | undefined): boolean =>
  Object.hasOwn(settings, first) && third === undefined && !(first === 'ns' && second === 'list');

/** Space, '...', "...", a backslash and a character, anything plain, and what is left over. */
const pieces =
  /(?<space>\s+)|'(?<single>[^']*)'|"(?<double>(?:\\.|[^"\\])*)"|\\(?<one>.)|(?<plain>[^\s'"\\]+)|(?<rest>.)/gsu;

/**
 * Words of a line, separated by spaces: '...' as it is, "..." with \" and \\, and a backslash
 * before any other character. Undefined where a quote is not closed.
 */
export function splitWords(line: string): string[] | undefined {
  const words: string[] = [];
  let isInside = false;
  for (const { groups = {} } of line.matchAll(pieces)) {
    if (groups['rest'] === "'" || groups['rest'] === '"') return undefined;
    const isSpace = groups['space'] !== undefined;
    if (!isSpace) words.push(`${isInside ? (words.pop() ?? '') : ''}${textOf(groups)}`);
    isInside = !isSpace;
  }
  return words;
}

function textOf(groups: Readonly<Record<string, string | undefined>>): string {
  const { single, double, one, plain, rest = '' } = groups;
  return single ?? double?.replaceAll(/\\(["\\])/g, '$1') ?? one ?? plain ?? rest;
}

function complete(line: string, commands: readonly string[]): [string[], string] {
  const words = [...commands, ...Object.keys(settings), 'settings', 'help', 'quit'];
  const hits = words.filter((word) => word.startsWith(line)).sort();
  return [line.includes(' ') ? [] : hits, line];
}

const isKept = (line: string): boolean =>
  line.trim() !== '' && !line.startsWith(' ') && !secret.test(line);

const historyPath = ({ env }: CommandIo): string =>
  env['KVCTL_HISTFILE'] ?? join(homedir(), '.kvctl_history');

/** The newest first, as readline takes it. */
function readHistory(file: string): string[] {
  try {
    return readFileSync(file, 'utf8').split('\n').filter(Boolean).slice(-historyMax).reverse();
  } catch {
    return [];
  }
}

/** A prompt works without a place for its history. */
function keep(file: string, line: string): void {
  try {
    appendFileSync(file, `${line}\n`, { mode: 0o600 });
  } catch {
    // The directory may be read-only.
  }
}
