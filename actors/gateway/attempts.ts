// What a failed attempt at one coordinator means: whether the next replica may be asked, and what
// the client is told if it was the last. The words are exact (rule ID-1): a write whose effect
// nobody can tell leaves as UNKNOWN_OUTCOME, a read that found nobody as UNAVAILABLE.

import { type ErrorCode, errorTable, type Failure, failure } from '../../runtime/errors.ts';

/** Questions about one key that a coordinator answers. */
export type KeyVerb = 'read' | 'write' | 'siblingWrite';

/** The coordinator itself is the trouble: another one may do better. */
const troubles: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'ACTOR_RESTARTED',
  'CLOCK_SKEW',
  'DISK_FAILED',
  'DRAINING',
  'NOT_CONNECTED',
  'NO_SUCH_ACTOR',
  'UNREACHABLE',
]);

/**
 * A read goes on after any trouble of its coordinator, a write only where nothing can have
 * happened. OVERLOADED on the way to another node (its link is full or gone) goes on as well; this
 * node's own overload is the client's to wait for.
 */
export function attemptsNext(verb: KeyVerb, { code }: Failure, isOwnNode: boolean): boolean {
  if (code === 'OVERLOADED') return !isOwnNode;
  return troubles.has(code) && (verb === 'read' || errorTable[code].effect === 'none');
}

/** The failure as the client hears it. */
export function finalFailure(verb: KeyVerb, problem: Failure): Failure {
  const { code, fields } = problem;
  const where = typeof fields['node'] === 'string' ? `node ${fields['node']}` : 'the coordinator';
  if (code === 'NOT_CONNECTED')
    return failure('UNAVAILABLE', { ...fields, detail: `there is no connection to ${where}` });
  const isLost = code === 'UNREACHABLE' || code === 'ACTOR_RESTARTED';
  if (!isLost) return problem;
  return verb === 'read'
    ? failure('UNAVAILABLE', {
        ...fields,
        detail: `${where} was lost and no other replica answers`,
      })
    : failure('UNKNOWN_OUTCOME', {
        ...fields,
        detail: `${where} was lost on the way: the write may or may not have happened`,
      });
}
