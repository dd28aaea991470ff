// Collections of garbage on the main thread of a process that this bench starts: how long they took, and
// how much of that was work. The wall clock alone cannot say it where other programs run: a collection
// that waits for a processor, or for a thread that waits for one, is as long as one that works. V8
// writes the processor time of its thread beside the wall clock into the events of its category `v8`
// (node:trace_events); the file is whole once the process has ended, so the one that started it reads it.

import { readFileSync } from 'node:fs';
import { assert } from '../../runtime/errors.ts';

/** For `node`, so that it writes its collections into `path`. */
export const tracingTo = (path: string): readonly string[] => [
  '--trace-event-categories=v8',
  `--trace-event-file-pattern=${path}`,
];

/** Between two readings of `clockMicros`, in the traced process. */
export type Span = readonly [fromMicros: number, toMicros: number];

/** The clock of the events, microseconds. */
export const clockMicros = (): number => Number(process.hrtime.bigint() / 1_000n);

export interface Collection {
  readonly startMicros: number;
  readonly wallMicros: number;
  /** Processor time of the thread that collected. */
  readonly workMicros: number;
}

interface TraceEvent {
  readonly name: string;
  /** B and E: begin and end of a span. X: a whole one, with its durations. */
  readonly ph: string;
  readonly tid: number;
  readonly ts: number;
  readonly tts: number;
  readonly dur?: number;
  readonly tdur?: number;
  readonly args?: { readonly name?: string };
}

/** Young and whole ones, with what V8 does before and after them. */
const names = new Set(['MinorGC', 'MajorGC']);
/** What the thread does for a whole one beforehand, between its own work. */
const steps = new Set(['V8.GCIncrementalMarkingStart', 'V8.GCIncrementalMarking']);

/**
 * Collections of the main thread of the process that wrote the file, in order of time. A step of
 * marking is one as well: the program waits for it just so.
 */
export function collectionsIn(path: string): readonly Collection[] {
  const { traceEvents } = JSON.parse(readFileSync(path, 'utf8')) as {
    readonly traceEvents: readonly TraceEvent[];
  };
  const main = traceEvents.find(({ args }) => args?.name === 'JavaScriptMainThread')?.tid;
  assert(main !== undefined, 'the trace does not name the main thread');
  const collections: Collection[] = [];
  let begun: TraceEvent | undefined;
  for (const event of traceEvents) {
    if (event.tid !== main) continue;
    const { name, ph, ts, tts, dur = 0, tdur = 0 } = event;
    if (steps.has(name)) collections.push({ startMicros: ts, wallMicros: dur, workMicros: tdur });
    if (!names.has(name)) continue;
    if (ph === 'B') begun = event;
    else if (begun !== undefined) {
      const startMicros = begun.ts;
      collections.push({ startMicros, wallMicros: ts - startMicros, workMicros: tts - begun.tts });
      begun = undefined;
    }
  }
  return collections;
}

/** The longest of those that began within the spans, by the wall clock and by work, microseconds. */
export function longestWithin(
  collections: readonly Collection[],
  spans: readonly Span[],
): { readonly wallMicros: number; readonly workMicros: number } {
  const within = collections.filter(({ startMicros }) =>
    spans.some(([from, to]) => startMicros >= from && startMicros <= to),
  );
  return {
    wallMicros: within.reduce((longest, { wallMicros }) => Math.max(longest, wallMicros), 0),
    workMicros: within.reduce((longest, { workMicros }) => Math.max(longest, workMicros), 0),
  };
}
