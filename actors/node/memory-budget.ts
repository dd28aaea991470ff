// How a budget of memory is split among the parts of the storage that grow with their settings. One
// rule for nodes and for the engine as a library. Of each shard's share:
//
//   47 %  memtables: three arenas, each with room for a memtable of a tenth of the share, a quarter
//         more, and what is on its way to the log when it is frozen
//    3 %  records on their way to the log
//   25 %  blocks of tables, with the indexes and filters of open tables
//   12 %  the row cache
//
// The rest is for requests. What the process needs with nothing in it (code, threads, heaps: about
// 100 MB) is not part of the budget, and a budget below the least sizes is exceeded by them.

import { KvError } from '../../runtime/errors.ts';
import { type SettingName, settingRows, type Tunables } from './settings.ts';

export const memoryBytesMin = 32 * 1024 * 1024;
/** Without a budget a node takes no more than this, bytes. */
const defaultBytesMax = 1024 * 1024 * 1024;
/** Without a budget: this part of what the process may have. */
const defaultPart = 4;

export type MemorySettings = Pick<
  Tunables,
  'memtableBytes' | 'inFlightBytes' | 'blockCacheBytes' | 'rowCacheBytes'
>;

/** Settings for `bytes` of memory in all. BAD_REQUEST below 32 MiB. */
export function splitMemory(bytes: number, shards: number): MemorySettings {
  if (!Number.isInteger(bytes) || bytes < memoryBytesMin)
    throw new KvError('BAD_REQUEST', {
      field: 'memory',
      detail: 'memory: expected at least 32M',
    });
  const share = bytes / shards;
  return {
    memtableBytes: within('memtableBytes', share / 10),
    inFlightBytes: Math.min(within('inFlightBytes', share / 32), settingRows.inFlightBytes.default),
    blockCacheBytes: within('blockCacheBytes', share / 4),
    rowCacheBytes: within('rowCacheBytes', share / 8),
  };
}

/** The budget of a node that was given none: a quarter of `machineBytes`, 32 MiB to 1 GiB. */
export function defaultMemory(machineBytes: number): number {
  const part = Math.floor(machineBytes / defaultPart);
  return Math.min(Math.max(part, memoryBytesMin), defaultBytesMax);
}

function within(name: SettingName, bytes: number): number {
  const { min, max } = settingRows[name];
  return Math.min(Math.max(Math.floor(bytes), min), max);
}
