// How far a long command is: a bar with rate and time left on a terminal, a line every few seconds
// elsewhere, nothing when it is to be quiet. Measured by the bytes read, since nobody counts the
// records of a file before reading it.

import type { Writable } from 'node:stream';
import { SingleBar } from 'cli-progress';

export interface ProgressOptions {
  readonly stream: Writable;
  /** Bytes in all; undefined where nobody knows (a pipe). */
  readonly totalBytes: number | undefined;
  readonly isQuiet: boolean;
  /** What is counted, as it stands in the line: `records`. */
  readonly unit: string;
}

export interface Progress {
  readonly update: (bytes: number, count: number) => void;
  readonly stop: () => void;
}

const lineEveryMs = 5000;
const mebibyte = 1024 * 1024;

export function startProgress(options: ProgressOptions): Progress {
  if (options.isQuiet) return { update: () => undefined, stop: () => undefined };
  const isTerminal = (options.stream as { isTTY?: boolean }).isTTY === true;
  return isTerminal && options.totalBytes !== undefined ? bar(options) : lines(options);
}

function bar({ stream, totalBytes = 0, unit }: ProgressOptions): Progress {
  const startedMs = performance.now();
  const single = new SingleBar({
    stream,
    format: `{bar} {percentage}%  {count} ${unit}  {rate}/s  {left} left`,
    hideCursor: true,
    clearOnComplete: false,
  });
  single.start(totalBytes, 0, { count: 0, rate: 0, left: '-' });
  return {
    update: (bytes, count) => {
      const seconds = (performance.now() - startedMs) / 1000;
      const rate = seconds > 0 ? Math.round(count / seconds) : 0;
      const left = bytes > 0 ? timeText((seconds * (totalBytes - bytes)) / bytes) : '-';
      single.update(bytes, { count, rate, left });
    },
    stop: () => single.stop(),
  };
}

function timeText(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

function lines({ stream, totalBytes, unit }: ProgressOptions): Progress {
  const startedMs = performance.now();
  let shownMs = startedMs;
  return {
    update: (bytes, count) => {
      const nowMs = performance.now();
      if (nowMs - shownMs < lineEveryMs) return;
      shownMs = nowMs;
      const percent =
        totalBytes === undefined ? '' : ` ${Math.floor((100 * bytes) / Math.max(1, totalBytes))}%`;
      const rate = Math.round((1000 * count) / (nowMs - startedMs));
      const read = (bytes / mebibyte).toFixed(1);
      stream.write(`${count} ${unit}, ${read} MiB read${percent}, ${rate} ${unit}/s\n`);
    },
    stop: () => undefined,
  };
}
