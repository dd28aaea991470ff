// How kvd ends, for shells and service managers (docs/operations.md).

import { describeFailure, KvError } from '../../runtime/errors.ts';

export const exitCodes = {
  ok: 0,
  crash: 1,
  usage: 2,
  dataRefused: 3,
  diskFailed: 4,
} as const;

/** The exit code and the one line that a failed start shows. */
export function startFailure(error: unknown): { readonly code: number; readonly line: string } {
  if (error instanceof KvError) {
    const line = describeFailure(error.toFailure());
    switch (error.code) {
      case 'BAD_REQUEST':
        return { code: exitCodes.usage, line };
      case 'DATA_REFUSED':
      case 'CORRUPT':
      case 'CONFLICT':
        return { code: exitCodes.dataRefused, line };
      case 'DISK_FAILED':
      case 'DISK_FULL':
        return { code: exitCodes.diskFailed, line };
      default:
        return { code: exitCodes.crash, line };
    }
  }
  const { code } = error as { code?: string };
  const line = error instanceof Error ? error.message : String(error);
  if (code === 'EADDRINUSE' || code === 'EACCES') return { code: exitCodes.usage, line };
  return { code: error instanceof Error && error.name === 'CorruptionError' ? 3 : 1, line };
}
