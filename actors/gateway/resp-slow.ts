// What took long: SLOWLOG and LATENCY. Both look at every command when it ends, and keep a bounded
// number of those that took longer than their threshold; arguments are cut, and those of AUTH and HELLO
// are never kept.
//
// References: redis.io commands SLOWLOG and LATENCY, "latency monitoring".

import { integerOf, printableOf, type RespCall, wordOf } from './resp-call.ts';
import { errorReply, notInteger, ok, type Reply, verbatim } from './resp-replies.ts';
import type { RespHandlers } from './resp-services.ts';
import { type Subcommand, withSubcommands } from './resp-subcommands.ts';

/** As CONFIG GET slowlog-log-slower-than and slowlog-max-len say. */
export const slowMicros = 10_000;
export const slowEntriesMax = 128;
/** As CONFIG GET latency-monitor-threshold says, milliseconds. */
export const spikeMs = 100;
const spikesMax = 160;
const argumentsMax = 32;
const argumentBytesMax = 128;
const secret: ReadonlySet<string> = new Set(['auth', 'hello']);

export const isSlow = (tookMs: number): boolean => tookMs * 1000 >= slowMicros;

interface SlowEntry {
  readonly id: number;
  readonly seconds: number;
  readonly micros: number;
  readonly args: readonly Reply[];
  readonly remote: string;
  readonly name: string;
}

interface Spike {
  readonly seconds: number;
  /** Longest of that second. */
  ms: number;
}

export class SlowCommands {
  /** The oldest first: under deep pipelines most commands are slow ones. */
  #entries: SlowEntry[] = [];
  /** The oldest first; one for each second. */
  spikes: Spike[] = [];
  longestMs = 0;
  #nextId = 0;

  /** The newest first. */
  get entries(): readonly SlowEntry[] {
    return this.#entries.toReversed();
  }

  get length(): number {
    return this.#entries.length;
  }

  forgetEntries(): void {
    this.#entries = [];
  }

  /** `wallMicros`: now. */
  ended(call: RespCall, tookMs: number, wallMicros: number): void {
    if (!isSlow(tookMs)) return;
    const seconds = Math.floor(wallMicros / 1_000_000);
    const { remote, name } = call.connection;
    const micros = Math.round(tookMs * 1000);
    const entry = { id: this.#nextId, seconds, micros, args: shownArguments(call), remote, name };
    this.#nextId += 1;
    this.#entries.push(entry);
    if (this.#entries.length > slowEntriesMax) this.#entries.shift();
    if (tookMs >= spikeMs) this.#spike(seconds, Math.round(tookMs));
  }

  #spike(seconds: number, ms: number): void {
    this.longestMs = Math.max(this.longestMs, ms);
    const last = this.spikes.at(-1);
    if (last?.seconds === seconds) last.ms = Math.max(last.ms, ms);
    else this.spikes = [...this.spikes, { seconds, ms }].slice(-spikesMax);
  }

  forgetSpikes(): number {
    const count = this.spikes.length === 0 ? 0 : 1;
    this.spikes = [];
    this.longestMs = 0;
    return count;
  }
}

function shownArguments({ args, spec }: RespCall): readonly Reply[] {
  if (secret.has(spec.name)) return [spec.name, '(redacted)'];
  const surplus = args.length - argumentsMax;
  const shown = args.slice(0, surplus > 0 ? argumentsMax - 1 : argumentsMax);
  const texts: Reply[] = shown.map((arg) =>
    arg.length <= argumentBytesMax
      ? arg.slice()
      : `${printableOf(arg.subarray(0, argumentBytesMax))}... (${arg.length - argumentBytesMax} more bytes)`,
  );
  return surplus > 0 ? [...texts, `... (${surplus + 1} more arguments)`] : texts;
}

// ---- commands ------------------------------------------------------------------------------

const slowlogGet: Subcommand = (call, { slow }) => {
  const text = call.args[2];
  const count = text === undefined ? 10 : integerOf(text);
  if (count === undefined) return notInteger;
  if (count < -1) return errorReply('ERR count should be greater than or equal to -1');
  const wanted = count === -1 ? slow.entries : slow.entries.slice(0, count);
  return wanted.map(({ id, seconds, micros, args, remote, name }) => [
    ...[id, seconds, micros, args, remote, name],
  ]);
};

const slowlog = withSubcommands('slowlog', {
  get: [2, 3, slowlogGet],
  len: [2, 2, (_call, { slow }) => slow.length],
  reset: [
    2,
    2,
    (_call, { slow }) => {
      slow.forgetEntries();
      return ok;
    },
  ],
  help: [
    2,
    2,
    () => [
      'SLOWLOG GET [count]: the newest entries, 10 of them, -1 for all',
      'SLOWLOG LEN: how many there are',
      'SLOWLOG RESET: forget them',
    ],
  ],
});

/** The one event that is watched. */
const event = 'command';

const doctor: Subcommand = (_call, { slow }) => {
  const { spikes, longestMs } = slow;
  const said =
    spikes.length === 0
      ? `No command of this node has taken ${spikeMs} ms or longer lately.`
      : `In ${spikes.length} seconds that are kept a command has taken ${spikeMs} ms or longer, at most ${longestMs} ms. SLOWLOG GET names the newest; the metrics of the node say what it waited for.`;
  return verbatim(`${said}\n`);
};

const latency = withSubcommands('latency', {
  latest: [
    2,
    2,
    (_call, { slow }) =>
      slow.spikes.slice(-1).map(({ seconds, ms }) => [event, seconds, ms, slow.longestMs]),
  ],
  history: [
    3,
    3,
    (call, { slow }) =>
      wordOf(call.arg(2)) === event ? slow.spikes.map(({ seconds, ms }) => [seconds, ms]) : [],
  ],
  reset: [
    2,
    Infinity,
    (call, { slow }) => {
      const events = call.args.slice(2).map(wordOf);
      return events.length === 0 || events.includes(event) ? slow.forgetSpikes() : 0;
    },
  ],
  doctor: [2, 2, doctor],
  help: [
    2,
    2,
    () => [
      `LATENCY LATEST: the newest second with a command of ${spikeMs} ms or longer, and the longest of all`,
      `LATENCY HISTORY ${event}: each such second with its longest command, milliseconds`,
      'LATENCY RESET [event ...]: forget them',
      'LATENCY DOCTOR: the same as text',
    ],
  ],
});

export const slowHandlers: RespHandlers = { slowlog, latency };
