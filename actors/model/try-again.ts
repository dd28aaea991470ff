// Work of a session that may be refused for a while: it is done again after a pause, and each pause is
// twice as long as the one before, up to a bound. What is worth another try is for its caller to say.

import type { Session } from '../../runtime/actor.ts';

/** Milliseconds. */
export interface Pauses {
  readonly firstMs: number;
  readonly longestMs: number;
}

/** `mayTryAgain` is asked once after each failure; what it says no to is thrown. */
export async function tryAgain<Result>(
  session: Pick<Session, 'sleep'>,
  { firstMs, longestMs }: Pauses,
  work: () => Promise<Result>,
  mayTryAgain: (error: unknown) => boolean,
): Promise<Result> {
  for (let pauseMs = firstMs; ; pauseMs = Math.min(2 * pauseMs, longestMs)) {
    try {
      return await work();
    } catch (error) {
      if (!mayTryAgain(error)) throw error;
    }
    await session.sleep(pauseMs);
  }
}
