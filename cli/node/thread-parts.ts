// What every kind of kvd thread is put together from, in a node and in an embedded store: the links
// to the other threads of its process, and the task pool, which belongs to the background thread.

import { availableParallelism } from 'node:os';
import type { CodecModules } from '../../runtime/block-codecs.ts';
import { BugError } from '../../runtime/errors.ts';
import type { BlockCodecs, Clock } from '../../runtime/environment.ts';
import { createTaskPool, type TaskPool } from '../../runtime/host/task-pool.ts';
import type { ThreadPart } from '../../runtime/host/threads.ts';
import type { Kernel } from '../../runtime/kernel.ts';
import type { Codec } from '../../transport/codec.ts';
import { ThreadLink, ThreadReceiver } from '../../transport/thread-link.ts';

/** The writing ends towards every other thread, by thread number; `nameOf` is for messages. */
export function createThreadLinks(
  { rings }: ThreadPart,
  nameOf: (thread: number) => string,
  codec: Codec,
  clock: Clock,
): Map<number, ThreadLink> {
  const links = new Map<number, ThreadLink>();
  for (const [thread, { outgoing, doorbell }] of Object.entries(rings)) {
    const name = nameOf(Number(thread));
    links.set(Number(thread), new ThreadLink({ name, ring: outgoing, doorbell, codec, clock }));
  }
  return links;
}

/** The reading ends; an answer goes back through the link to the same thread. */
export function createThreadReceivers(
  { rings }: ThreadPart,
  links: ReadonlyMap<number, ThreadLink>,
  codec: Codec,
  clock: Clock,
  kernel: Kernel,
): readonly ThreadReceiver[] {
  const { node } = kernel;
  return Object.entries(rings).map(([thread, { incoming, doorbell }]) => {
    const back = links.get(Number(thread));
    const received = (bytes: Uint8Array): void =>
      kernel.deliver(codec.decodeEnvelope(bytes, clock.monotonicMs(), back, node, node));
    return new ThreadReceiver({ ring: incoming, doorbell, received });
  });
}

/** Where the foreground and the background have a processor each, and a third thread has none. */
const fewProcessors = 2;

/**
 * On any other thread than the one that has the background, a pool that refuses: nobody there asks.
 * `own`: the codecs of the thread, unless it has the foreground as well, which no task may hold up.
 */
export function createThreadTasks(
  hasBackground: boolean,
  codecModules: CodecModules,
  own: BlockCodecs | undefined,
): TaskPool {
  if (!hasBackground) return noTasks;
  const ownTools = availableParallelism() <= fewProcessors ? own : undefined;
  return createTaskPool({ threadsMin: 0, threadsMax: 1, codecModules, ownTools });
}

const noTasks: TaskPool = {
  run: (name) => Promise.reject(new BugError(`task ${name} outside of the background thread`)),
  close: () => Promise.resolve(),
};
