// A processor that a thread shares with no other thread of its process. The kernel puts a busy
// thread aside for a tick, 4 ms, for a helper of V8 or one that flushes, also while another processor
// is idle (docs/performance.md); it cannot where they may not run on the same one. Node has no call
// for that, so taskset of util-linux sets it, for each thread of proc_pid_status(5).

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { threadId } from './priority.ts';

const tasks = '/proc/self/task';

/** What the calling thread has kept for itself. */
interface Kept {
  readonly tid: string;
  readonly processor: number;
  /** Where each thread was allowed to run before. */
  readonly before: ReadonlyMap<string, readonly number[]>;
  holders: number;
}

let kept: Kept | undefined;

/**
 * The calling thread stays on the processor it is on, and all other threads of the process leave it.
 * Threads that it starts later begin there, until the next call. A call that succeeded has to be
 * followed by one of `shareProcessor`. For one thread of a process at a time: of two, each takes from
 * the other's helpers what it keeps, and gives back what it took alone. False where there is only one
 * processor, or nothing that sets it.
 */
export function keepProcessor(): boolean {
  try {
    kept ??= keep();
    if (kept === undefined) return false;
    kept.holders += 1;
  } catch {
    return false;
  }
  try {
    clear(kept);
    return true;
  } catch {
    shareProcessor();
    return false;
  }
}

/** Threads that began since `keepProcessor` leave its processor too, as far as they can be moved. */
export function clearProcessor(): void {
  if (kept === undefined) return;
  try {
    clear(kept);
  } catch {
    // They stay beside the calling thread: slower, and otherwise the same.
  }
}

/** After as many calls as of `keepProcessor` everything is as it was, as far as it can be set. */
export function shareProcessor(): void {
  if (kept === undefined) return;
  kept.holders -= 1;
  if (kept.holders > 0) return;
  const { tid, processor, before } = kept;
  kept = undefined;
  const own = before.get(tid) ?? [];
  const others = without(own, processor);
  try {
    eachThread((other, allowed) => {
      const known = before.get(other);
      // What others changed meanwhile stays. One that began since is allowed what its maker was.
      if (other === tid) allow(other, own);
      else if (known === undefined && (isAlone(allowed, processor) || isSame(allowed, others)))
        allow(other, own);
      else if (known?.includes(processor) === true && !allowed.includes(processor))
        allow(other, known);
    });
  } catch {
    // A thread that could not be moved back stays away from a processor: slower, and otherwise the same.
  }
}

function keep(): Kept | undefined {
  const tid = threadId();
  const before = new Map<string, readonly number[]>();
  eachThread((other, allowed) => before.set(other, allowed));
  const own = before.get(tid) ?? [];
  const processor = processorOf(tid);
  if (own.length < 2 || !own.includes(processor)) return undefined;
  allow(tid, [processor]);
  return { tid, processor, before, holders: 0 };
}

function clear({ tid, processor, before }: Kept): void {
  eachThread((other, allowed) => {
    if (other === tid || !allowed.includes(processor)) return;
    // One that the calling thread began since may run where that one was allowed to.
    const some = isAlone(allowed, processor) ? (before.get(tid) ?? []) : allowed;
    allow(other, without(some, processor));
  });
}

const without = (processors: readonly number[], one: number): readonly number[] =>
  processors.filter((processor) => processor !== one);

const isAlone = (allowed: readonly number[], processor: number): boolean =>
  isSame(allowed, [processor]);

const isSame = (some: readonly number[], others: readonly number[]): boolean =>
  some.length === others.length && some.every((processor, i) => processor === others[i]);

/** Of those that end meanwhile nothing is said. */
function eachThread(change: (tid: string, allowed: readonly number[]) => void): void {
  for (const tid of fs.readdirSync(tasks)) {
    try {
      change(tid, allowedOf(tid));
    } catch (error) {
      if (fs.existsSync(`${tasks}/${tid}`)) throw error;
    }
  }
}

function allow(tid: string, processors: readonly number[]): void {
  execFileSync('taskset', ['-p', '-c', processors.join(','), tid], { stdio: 'ignore' });
}

/** A list like `0-3,8`. */
function allowedOf(tid: string): readonly number[] {
  const status = fs.readFileSync(`${tasks}/${tid}/status`, 'utf8');
  const list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(status)?.[1] ?? '';
  return list.split(',').flatMap((part) => {
    const [first = NaN, last = first] = part.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}

/** Field 39 of proc_pid_stat(5); the name, field 2, may hold spaces. */
function processorOf(tid: string): number {
  const stat = fs.readFileSync(`${tasks}/${tid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[39 - 3]);
}
