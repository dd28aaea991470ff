// Pure functions that take long enough to be run on another thread, by name. The Node host runs
// them in its pool (runtime/host/task-pool.ts), the simulator inline. A task sees its input and
// the tools only, and keeps nothing between two calls; input and output are plain data, or shared
// memory that nobody else touches meanwhile.

import { crc32, wordAligned } from './bytes.ts';
import type { BlockCodecs } from './environment.ts';
import { BugError } from './errors.ts';

/** What a task may use beside its input; made once per thread. */
export type TaskTools = BlockCodecs;

export type TaskTable = Readonly<Record<string, (input: never, tools: TaskTools) => unknown>>;

export interface PackInput {
  /** Blocks, each at the next word. Shared memory: the threads of a pool see the same bytes. */
  readonly raw: Uint8Array<SharedArrayBuffer>;
  /** Where each block ends in `raw`. */
  readonly ends: readonly number[];
  readonly codec: keyof BlockCodecs;
  /** For the packed blocks, one behind the other; as long as `raw`. */
  readonly packed: Uint8Array<SharedArrayBuffer>;
}

/** Where each packed block ends; one that would not become shorter is left out and takes no bytes. */
function packBlocks({ raw, ends, codec, packed }: PackInput, tools: TaskTools): readonly number[] {
  let at = 0;
  let packedAt = 0;
  return ends.map((end) => {
    const bytes = tools[codec].compress(raw.subarray(at, end));
    if (bytes.length < end - at) {
      packed.set(bytes, packedAt);
      packedAt += bytes.length;
    }
    at = wordAligned(end);
    return packedAt;
  });
}

function checksum({ parts }: { readonly parts: readonly Uint8Array[] }): readonly number[] {
  return parts.map((part) => crc32(part));
}

/** The tasks that every node has. */
export const coreTasks = {
  /** Raw blocks to packed ones, in the same order. */
  'pack-blocks': packBlocks,
  /** CRC-32 of each part. */
  checksum,
} as const satisfies TaskTable;

/**
 * A core task that is over within a few milliseconds for a megabyte: where a thread of a pool would
 * take its processor from somebody who needs it, it is better run by the thread that asks.
 */
export function isShortTask(name: string, input: unknown): boolean {
  return name === 'pack-blocks' && (input as PackInput).codec === 'lz4';
}

/** Runs one task here and now. An unknown name is a defect of the caller. */
export function runTask(tasks: TaskTable, tools: TaskTools, name: string, input: unknown): unknown {
  const task = Object.hasOwn(tasks, name) ? tasks[name] : undefined;
  if (task === undefined) throw new BugError(`there is no task ${name}`);
  return task(input as never, tools);
}
