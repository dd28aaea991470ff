// Tasks over piscina: a pool of low-priority threads for pure functions, so that building blocks
// and checking checksums never holds up a shard. Results and errors travel as plain data, because
// piscina keeps neither the class nor the fields of an error.
//
// The pool waits for work without `Atomics.wait` (atomics: 'disabled'), which would keep each
// worker's event loop standing still between two tasks.

import { setImmediate } from 'node:timers/promises';
import { Piscina } from 'piscina';
import type { CodecModules } from '../block-codecs.ts';
import type { Tasks } from '../environment.ts';
import { BugError, type Failure, KvError } from '../errors.ts';
import { coreTasks, isShortTask, runTask, type TaskTools } from '../tasks.ts';

export interface TaskPoolOptions {
  /** Threads kept ready, and the most there may be. */
  readonly threadsMin: number;
  readonly threadsMax: number;
  /** The compiled codecs; each thread makes its own instances of them. */
  readonly codecModules: CodecModules;
  /** Tasks that may wait; one more is refused with OVERLOADED. Default 1,024. */
  readonly queueLengthMax?: number;
  /** Those of the calling thread, which then runs short tasks itself, in a later turn of its loop. */
  readonly ownTools?: TaskTools | undefined;
  /** Another worker file than task-worker.ts, which serves its own tasks by `taskServer`. */
  readonly worker?: URL;
}

export interface TaskPool extends Tasks {
  /** Ends the threads; tasks that still run are dropped. */
  readonly close: () => Promise<void>;
}

/** How a worker answers: expected failures are data. */
export type TaskOutcome =
  | { readonly ok: true; readonly output: unknown }
  | { readonly ok: false; readonly failure: Failure };

export interface TaskCall {
  readonly task: string;
  readonly input: unknown;
}

export interface TaskWorkerData {
  readonly codecModules: CodecModules;
}

export function createTaskPool(options: TaskPoolOptions): TaskPool {
  const { threadsMin, threadsMax, codecModules, ownTools, queueLengthMax = 1024 } = options;
  const worker = options.worker ?? new URL('./task-worker.js', import.meta.url);
  const workerData: TaskWorkerData = { codecModules };
  const pool = new Piscina<TaskCall, TaskOutcome>({
    filename: worker.href,
    name: 'serveTask',
    minThreads: threadsMin,
    maxThreads: threadsMax,
    maxQueue: queueLengthMax,
    atomics: 'disabled',
    // Piscina tries `require` first. Node 20 ends the whole process when a thread is stopped in the
    // middle of requiring an ES module; without that ability it goes on to `import`, which is safe.
    execArgv: ['--no-experimental-require-module'],
    workerData,
  });
  const run = async (task: string, input: unknown): Promise<unknown> => {
    if (ownTools !== undefined && isShortTask(task, input)) {
      // As from a pool: what waits in the loop comes in between.
      await setImmediate();
      return runTask(coreTasks, ownTools, task, input);
    }
    if (pool.queueSize >= queueLengthMax)
      throw new KvError('OVERLOADED', { task, capacity: queueLengthMax });
    const outcome = await pool.run({ task, input });
    if (outcome.ok) return outcome.output;
    const { code, fields } = outcome.failure;
    if (code === 'BUG') throw new BugError(`task ${task}: ${String(fields['detail'])}`);
    throw new KvError(code, fields);
  };
  return { run: run as Tasks['run'], close: () => pool.destroy() };
}
