// A processor that a thread shares with no other thread of its process. The kernel puts a busy
// thread aside for a tick, 4 ms, for a helper of V8 or one that flushes, also while another processor
// is idle (docs/performance.md); it cannot where they may not run on the same one. Node has no call
// for that, so taskset of util-linux sets it, for each thread of proc_pid_status(5).

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';

const tasks = '/proc/self/task';

/** What the calling thread has kept for itself. */
interface Kept {
  readonly tid: string;
  readonly processor: number;
  /** Where it was allowed to run before. */
  readonly before: readonly number[];
  /** The threads that were allowed to run there too. */
  readonly moved: Set<string>;
  holders: number;
}

let kept: Kept | undefined;

/**
 * The calling thread stays on the processor it is on, and all other threads of the process leave it.
 * Threads that it starts later begin there, until the next call. A call that succeeded has to be
 * followed by one of `shareProcessor`. False where there is only one processor, or nothing that sets it.
 */
export function keepProcessor(): boolean {
  try {
    kept ??= keep();
    if (kept === undefined) return false;
    kept.holders += 1;
    clear(kept);
    return true;
  } catch {
    return false;
  }
}

/** Threads that began since `keepProcessor` leave its processor too. */
export function clearProcessor(): void {
  if (kept !== undefined) clear(kept);
}

/** After as many calls as of `keepProcessor` everything is as it was. */
export function shareProcessor(): void {
  if (kept === undefined) return;
  kept.holders -= 1;
  if (kept.holders > 0) return;
  const { processor, before, moved } = kept;
  kept = undefined;
  eachThread((tid, allowed) => {
    // Of the calling thread, or begun by it since.
    if (isAlone(allowed, processor)) allow(tid, before);
    else if (moved.has(tid)) allow(tid, [...allowed, processor]);
  });
}

function keep(): Kept | undefined {
  // A link to <pid>/task/<tid>.
  const tid = fs.readlinkSync('/proc/thread-self').split('/').pop() as string;
  const before = allowedOf(tid);
  const processor = processorOf(tid);
  if (before.length < 2 || !before.includes(processor)) return undefined;
  allow(tid, [processor]);
  return { tid, processor, before, moved: new Set(), holders: 0 };
}

function clear({ tid, processor, before, moved }: Kept): void {
  eachThread((other, allowed) => {
    if (other === tid || !allowed.includes(processor)) return;
    // One that the calling thread began since may run where that one was allowed to.
    const some = isAlone(allowed, processor) ? before : allowed;
    const others = some.filter((one) => one !== processor);
    allow(other, others);
    moved.add(other);
  });
}

const isAlone = (allowed: readonly number[], processor: number): boolean =>
  allowed.length === 1 && allowed[0] === processor;

function eachThread(change: (tid: string, allowed: readonly number[]) => void): void {
  for (const tid of fs.readdirSync(tasks)) {
    try {
      change(tid, allowedOf(tid));
    } catch {
      // It has ended meanwhile.
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
