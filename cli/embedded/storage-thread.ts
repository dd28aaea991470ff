// One of the two threads of an embedded store: the calling thread runs log, memtable, tables and
// store, a worker of its own the compactor, so that no flush or merge holds up the program
// (docs/embedded.md). The same actors, rings and plan as in a node, without gateway and cluster.
//
// What belongs to a store ends with it: timers are cancelled and files closed at the stop, since
// the process goes on.

import { planStorage, type StorageSettings } from '../../actors/node/plan.ts';
import { threadGroups } from '../../actors/node/thread-groups.ts';
import { allProtocols } from '../../actors/node/protocols.ts';
import { type CodecModules, createCodecs } from '../../runtime/block-codecs.ts';
import type {
  Capabilities,
  Disk,
  DiskFile,
  Host,
  Log,
  TimerHandle,
  Timers,
} from '../../runtime/environment.ts';
import type { Failure } from '../../runtime/errors.ts';
import { createNodeDisk } from '../../runtime/host/node-disk.ts';
import { createNodeHost, secretBytes } from '../../runtime/host/node-host.ts';
import { type CpuPriority, lowerThreadPriority } from '../../runtime/host/priority.ts';
import type { ThreadPart } from '../../runtime/host/threads.ts';
import { Kernel } from '../../runtime/kernel.ts';
import type { Placement } from '../../runtime/placement.ts';
import { Codec } from '../../transport/codec.ts';
import { NodeRouter } from '../../transport/transport.ts';
import {
  createThreadLinks,
  createThreadReceivers,
  createThreadTasks,
} from '../node/thread-parts.ts';
import { spareArrays } from './spare-memory.ts';

/** What both threads are built from: plain data and shared memory. */
export interface StorageSeed {
  readonly settings: StorageSettings;
  /** Absolute. */
  readonly directory: string;
  readonly codecModules: CodecModules;
  readonly arenas: readonly SharedArrayBuffer[];
  readonly backgroundPriority: CpuPriority;
  readonly part: ThreadPart;
}

export interface StorageThread {
  readonly kernel: Kernel;
  readonly start: () => Promise<void>;
  /** Nothing runs afterwards; asks that are open end with `problem`. */
  readonly stop: (problem?: Failure) => Promise<void>;
}

export const callingThread = 0;
export const workerThread = 1;

export const storagePlacement: Placement = {
  profile: 'small',
  shards: 1,
  threads: 2,
  threadOf: (group) => (group === 'background' ? workerThread : callingThread),
  nameOf: (thread) => (thread === callingThread ? 'storage' : 'storage-background'),
};

/** Builds a thread; nothing runs before `start`. `fatal`: the store cannot go on. */
export function createStorageThread(
  thread: number,
  seed: StorageSeed,
  log: Log,
  fatal: (reason: string) => void,
): StorageThread {
  const { settings, directory, codecModules, arenas, backgroundPriority } = seed;
  const isWorker = thread === workerThread;
  const disk = closableDisk(createNodeDisk(directory));
  const codecs = createCodecs(codecModules);
  const tasks = createThreadTasks(isWorker, codecModules, codecs);
  const taken: ArrayBuffer[] = [];
  const takeMemory = (length: number): Uint8Array => {
    const memory = spareArrays.take(length);
    taken.push(memory);
    return new Uint8Array(memory);
  };
  const secrets = secretBytes;
  const capabilities: Capabilities = { disk, codecs, arenas, tasks, takeMemory, secrets };
  const nodeHost = createNodeHost({ log, capabilities, onStop: fatal });
  const timers = cancellableTimers(nodeHost.timers);
  const { kernel, close } = joinedKernel(thread, seed, { ...nodeHost, timers });
  const planned = planStorage(settings, storagePlacement).filter((one) => one.thread === thread);
  return {
    kernel,
    start: async () => {
      if (isWorker) giveWay(backgroundPriority, log);
      for (const { spec } of planned) await kernel.spawn(spec);
    },
    stop: async (problem) => {
      kernel.stop(problem);
      timers.cancelAll();
      close();
      await tasks.close();
      disk.closeAll();
      for (const memory of taken.splice(0)) spareArrays.giveBack(memory);
    },
  };
}

/** A kernel with its links to the other thread; `close` ends the reading ends. */
function joinedKernel(
  thread: number,
  { settings, part }: StorageSeed,
  host: Host,
): { readonly kernel: Kernel; readonly close: () => void } {
  const { node } = settings;
  const { clock } = host;
  const codec = new Codec(allProtocols);
  const links = createThreadLinks(part, storagePlacement.nameOf, codec, clock);
  const router = new NodeRouter({
    node,
    placement: storagePlacement,
    groupOf: (actor) => threadGroups[actor] ?? 'shard',
    threadLinks: links,
    peers: undefined,
  });
  const name = storagePlacement.nameOf(thread);
  const kernel = new Kernel({ node, thread: name, host, router, protocols: allProtocols });
  const receivers = createThreadReceivers(part, links, codec, clock, kernel);
  return { kernel, close: () => receivers.forEach((receiver) => receiver.close()) };
}

/** Timers that keep no closed store, and with it the process, alive. */
function cancellableTimers(timers: Timers): Timers & { readonly cancelAll: () => void } {
  const open = new Set<TimerHandle>();
  return {
    ...timers,
    after: (delayMs, fire) => {
      const inner = timers.after(delayMs, () => {
        open.delete(handle);
        fire();
      });
      const handle: TimerHandle = {
        cancel: () => {
          open.delete(handle);
          inner.cancel();
        },
      };
      open.add(handle);
      return handle;
    },
    cancelAll: () => {
      for (const handle of open) handle.cancel();
    },
  };
}

/** A disk that knows which of its files are open. */
function closableDisk(disk: Disk): Disk & { readonly closeAll: () => void } {
  const open = new Set<DiskFile>();
  return {
    ...disk,
    open: (path, mode) => {
      const inner = disk.open(path, mode);
      const file: DiskFile = {
        ...inner,
        path: inner.path,
        close: () => {
          open.delete(file);
          inner.close();
        },
      };
      open.add(file);
      return file;
    },
    closeAll: () => {
      for (const file of open) file.close();
    },
  };
}

/** What was asked for and cannot be had is said; the usual priority goes without saying. */
function giveWay(priority: CpuPriority, log: Log): void {
  const isSet = lowerThreadPriority(priority);
  if (!isSet && priority !== 'low') log.warn('storage.priority-not-set', { priority });
}
