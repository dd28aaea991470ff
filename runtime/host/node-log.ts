// The log of a node process: pino, one JSON line per event, or the same line as text for a person
// who watches a terminal. Each thread makes its own log and writes its lines itself, in one write
// each and before the call returns: the last line before an exit is never lost (rule TR-6), and no
// log thread has to outlive a crash.

import pino from 'pino';
import type { Log } from '../environment.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent';
export type LogFormat = 'json' | 'pretty';

export interface LogOptions {
  readonly node: string;
  /** Names the thread, such as `control` or `shard-0`. */
  readonly thread: string;
  /** Default `info`. */
  readonly level?: LogLevel;
  /** Default `json`. */
  readonly format?: LogFormat;
  /** A file descriptor (default 1, the standard output) or the path of a file to append to. */
  readonly to?: number | string;
}

/** One log event as pino writes it. */
type LogLine = Readonly<Record<string, unknown>>;

/** A log that writes before it returns. A reader that went away (EPIPE) does not end the node. */
export function createNodeLog(options: LogOptions): Log {
  const { node, thread, level = 'info', format = 'json', to = 1 } = options;
  const destination = pino.destination({ dest: to, sync: true });
  destination.on('error', () => undefined);
  const stream =
    format === 'json'
      ? destination
      : { write: (line: string) => destination.write(prettyLine(JSON.parse(line) as LogLine)) };
  const logger = pino(
    {
      level,
      base: { node, thread },
      messageKey: 'event',
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    stream,
  );
  return {
    debug: (event, fields) => logger.debug(fields, event),
    info: (event, fields) => logger.info(fields, event),
    warn: (event, fields) => logger.warn(fields, event),
    error: (event, fields) => logger.error(fields, event),
  };
}

/** `12:34:56.789 INFO  n1/control wal.recovered records=10`, with its line end. */
export function prettyLine(line: LogLine): string {
  const { level, time, node, thread, event, ...fields } = line;
  const clock = String(time).slice(11, 23);
  const shown = Object.entries(fields).map(([name, value]) => ` ${name}=${shownValue(value)}`);
  const label = String(level).toUpperCase().padEnd(5);
  return `${clock} ${label} ${String(node)}/${String(thread)} ${String(event)}${shown.join('')}\n`;
}

function shownValue(value: unknown): string {
  const text = String(value);
  return /[\s="]/.test(text) ? JSON.stringify(text) : text;
}
