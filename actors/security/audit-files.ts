// The files of the audit log: JSON lines in `audit/audit-00000001.jsonl` and on, each up to a size, the
// oldest removed when there are too many. Pure: names, and what comes next.

import type { AuditEntry } from './protocol.ts';

export const auditDirectory = 'audit';
/** A file that has reached it is followed by the next one. */
export const auditFileBytes = 8 * 1024 * 1024;
export const auditFilesMax = 8;

const namePattern = /^audit-(\d{8})\.jsonl$/;

export const auditPath = (number: number): string =>
  `${auditDirectory}/audit-${String(number).padStart(8, '0')}.jsonl`;

/** Numbers of the files of a directory, ascending. */
export const auditNumbers = (names: readonly string[]): number[] =>
  names
    .flatMap((name) => {
      const digits = namePattern.exec(name)?.[1];
      return digits === undefined ? [] : [Number(digits)];
    })
    .sort((a, b) => a - b);

/** Longest of each text in a line: names are shorter, and what is none is cut. */
const textLengthMax = 256;

/** One line with its end. `time`: milliseconds since 1970. */
export function auditLine(
  entry: AuditEntry,
  facts: { readonly timeMs: number; readonly node: string; readonly leftOut: number },
): string {
  const cut = (text: string): string => text.slice(0, textLengthMax);
  const { timeMs, node, leftOut } = facts;
  return `${JSON.stringify({
    time_ms: Math.floor(timeMs),
    node,
    user: cut(entry.user),
    address: cut(entry.address),
    act: cut(entry.act),
    target: cut(entry.target),
    outcome: cut(entry.outcome),
    ...(leftOut === 0 ? {} : { left_out: leftOut }),
  })}\n`;
}
