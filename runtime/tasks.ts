// Pure functions that take long enough to be run on another thread, by name. The Node host runs
// them in its pool (runtime/host/task-pool.ts), the simulator inline. A task sees its input and
// the tools only, and keeps nothing between two calls; input and output are plain data.

import { crc32 } from './bytes.ts';
import type { BlockCodecs } from './environment.ts';
import { BugError } from './errors.ts';

/** What a task may use beside its input; made once per thread. */
export type TaskTools = BlockCodecs;

export type TaskTable = Readonly<Record<string, (input: never, tools: TaskTools) => unknown>>;

export interface PackInput {
  readonly blocks: readonly Uint8Array[];
  readonly codec: keyof BlockCodecs;
}

export interface CompressedBlock {
  readonly bytes: Uint8Array;
  /** CRC-32 of `bytes`. */
  readonly crc: number;
}

function compressBlocks(
  { blocks, codec }: PackInput,
  tools: TaskTools,
): readonly CompressedBlock[] {
  return blocks.map((block) => {
    const bytes = tools[codec].compress(block).slice();
    return { bytes, crc: crc32(bytes) };
  });
}

function checksum({ parts }: { readonly parts: readonly Uint8Array[] }): readonly number[] {
  return parts.map((part) => crc32(part));
}

/** The tasks that every node has. */
export const coreTasks = {
  /** Raw blocks to packed ones, in the same order, each with its checksum. */
  'compress-blocks': compressBlocks,
  /** CRC-32 of each part. */
  checksum,
} as const satisfies TaskTable;

/** Runs one task here and now. An unknown name is a defect of the caller. */
export function runTask(tasks: TaskTable, tools: TaskTools, name: string, input: unknown): unknown {
  const task = Object.hasOwn(tasks, name) ? tasks[name] : undefined;
  if (task === undefined) throw new BugError(`there is no task ${name}`);
  return task(input as never, tools);
}
