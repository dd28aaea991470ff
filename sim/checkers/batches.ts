// Atomic batches (BL-1 to BL-5): in the end all of a batch is there, or nothing of it. Every batch
// writes one value of its own under all of its keys, with one stamp.
//
//   half     a batch that was acknowledged, or whose answer said that it will complete, or of which a
//            read has shown anything: in the final read of each of its keys its value or something newer
//   undead   a batch that was refused without effect: no read ever shows its value
//
// Of a batch whose answer was lost the stamp is known from the reads that showed it.

import { compareEtags, type Etag } from '../../actors/model/record.ts';
import type { Checker } from '../checker.ts';
import type { Operation } from '../history.ts';
import type { Violation } from './violation.ts';

export const batchChecker: Checker = {
  id: 'BL-1 batches',
  check: ({ of, lostCopies, isRefilled }) => {
    const operations = of('batches');
    const batches = operations.filter(({ kind }) => kind === 'batch');
    // Where copies were destroyed, what was acknowledged may be gone with them.
    const mayBeLost = ({ level }: Operation): boolean => !isRefilled || level === 'ONE';
    if (lostCopies > 0 && batches.some(mayBeLost)) return { judged: 0, violations: [] };
    return { judged: batches.length, violations: checkBatches(operations) };
  },
};

/** `operations`: batches, and gets of single keys. */
export function checkBatches(operations: readonly Operation[]): Violation[] {
  const reads = operations.filter(({ kind, outcome }) => kind === 'get' && outcome === 'ok');
  const finals = new Map(
    reads.filter(({ phase }) => phase === 'final').map((read) => [read.key, read]),
  );
  const shown = new Map<string | undefined, Operation>();
  for (const read of reads) if (!shown.has(read.value)) shown.set(read.value, read);
  return operations
    .filter(({ kind }) => kind === 'batch')
    .flatMap((batch) => problemsOf(batch, shown.get(batch.value), finals));
}

/** `seen`: a read that has shown the value of the batch. */
function problemsOf(
  batch: Operation,
  seen: Operation | undefined,
  finals: ReadonlyMap<string, Operation>,
): readonly Violation[] {
  if (batch.outcome === 'fail')
    return seen === undefined
      ? []
      : [violation(batch, seen, 'a batch that was refused has left something')];
  const etag = batch.etag ?? seen?.etag;
  if (etag === undefined) return [];
  return missing(batch, etag, finals).map((read) =>
    violation(batch, read, 'a batch is there in part'),
  );
}

/** Final reads of keys of the batch that show something older, or nothing. */
function missing(
  batch: Operation,
  etag: Etag,
  finals: ReadonlyMap<string, Operation>,
): readonly Operation[] {
  return (batch.keys ?? []).flatMap((key) => {
    const read = finals.get(key);
    if (read === undefined) return [];
    const isThere = read.etag !== undefined && compareEtags(read.etag, etag) >= 0;
    return isThere ? [] : [read];
  });
}

const violation = (batch: Operation, read: Operation, what: string): Violation => ({
  rule: 'BL-1',
  key: read.key,
  what,
  operations: [batch, read],
});
