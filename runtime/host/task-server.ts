// What a thread of the task pool runs: it gives way to every foreground thread (nice 19), makes its
// tools once and runs tasks by name. A program with more tasks than the core ones has a worker file
// of its own that calls `taskServer` with a larger table, so that this folder knows none of them.

import { workerData } from 'node:worker_threads';
import { createCodecs } from '../block-codecs.ts';
import { toFailure } from '../errors.ts';
import { runTask, type TaskTable } from '../tasks.ts';
import { lowerThreadPriority } from './priority.ts';
import type { TaskCall, TaskOutcome, TaskWorkerData } from './task-pool.ts';

/** What a worker file exports under the name `serveTask`. Call it once, in a pool's thread. */
export function taskServer(tasks: TaskTable): (call: TaskCall) => TaskOutcome {
  lowerThreadPriority();
  const { codecModules } = workerData as TaskWorkerData;
  const tools = createCodecs(codecModules);
  return ({ task, input }) => {
    try {
      return { ok: true, output: runTask(tasks, tools, task, input) };
    } catch (error) {
      return { ok: false, failure: toFailure(error) };
    }
  };
}
