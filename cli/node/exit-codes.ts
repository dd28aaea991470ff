// How kvd ends: its exit codes for shells and service managers (docs/operations.md), and the one
// line that says why a start failed.

import { describeFailure, type ErrorCode, isErrorCode, KvError } from '../../runtime/errors.ts';

export const exitCodes = {
  ok: 0,
  crash: 1,
  usage: 2,
  dataRefused: 3,
  diskFailed: 4,
} as const;

/** The exit code and the one line that a failed start shows. */
export function startFailure(error: unknown): { readonly code: number; readonly line: string } {
  if (error instanceof KvError)
    return { code: exitCodeOf(error.code), line: describeFailure(error.toFailure()) };
  const text = error instanceof Error ? error.message : String(error);
  // An error from another thread has kept nothing but its message: `CODE: sentence`.
  const [, code, sentence] = /^([A-Z_]+): ([^]*)$/.exec(text) ?? [];
  if (code !== undefined && isErrorCode(code))
    return { code: exitCodeOf(code), line: sentence ?? text };
  const isDamage = text.startsWith('corrupt data in');
  return { code: isDamage ? exitCodes.dataRefused : exitCodes.crash, line: text };
}

function exitCodeOf(code: ErrorCode): number {
  switch (code) {
    case 'BAD_REQUEST':
      return exitCodes.usage;
    case 'DATA_REFUSED':
    case 'CORRUPT':
    case 'CONFLICT':
      return exitCodes.dataRefused;
    case 'DISK_FAILED':
    case 'DISK_FULL':
      return exitCodes.diskFailed;
    default:
      return exitCodes.crash;
  }
}
