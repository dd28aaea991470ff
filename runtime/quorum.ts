// Asks several nodes the same and ends as soon as enough of them have said yes, or too few still
// can. What comes later is looked at by nobody.
//
// With spares only as many as are needed are asked at first: one more for each that cannot answer
// or says no, and all of them when the answers take too long. A node that is not asked has nothing
// to do and nothing to sync.

import { toFailure, type Failure } from './errors.ts';

export interface Votes<Reply> {
  readonly yes: readonly { readonly node: string; readonly reply: Reply }[];
  readonly no: readonly Reply[];
  /** Of those who could not answer. */
  readonly problems: readonly Failure[];
  readonly isEnough: boolean;
}

export function askQuorum<Reply>(
  nodes: readonly string[],
  required: number,
  ask: (node: string) => Promise<Reply>,
  isYes: (reply: Reply) => boolean,
  /** Resolves when the spares are to be asked too; absent: everybody is asked at once. */
  untilSpares?: () => Promise<unknown>,
): Promise<Votes<Reply>> {
  const yes: { node: string; reply: Reply }[] = [];
  const no: Reply[] = [];
  const problems: Failure[] = [];
  return new Promise((resolve) => {
    const spares = [...nodes];
    let isOver = false;
    const settle = (): void => {
      const isEnough = yes.length >= required;
      const open = nodes.length - yes.length - no.length - problems.length;
      if (!isEnough && yes.length + open >= required) return;
      isOver = true;
      resolve({ yes: [...yes], no: [...no], problems: [...problems], isEnough });
    };
    const askNext = (): void => {
      const node = spares.shift();
      if (node === undefined || isOver) return;
      void ask(node).then(
        (reply) => {
          const isAgreed = isYes(reply);
          if (isAgreed) yes.push({ node, reply });
          else no.push(reply);
          settle();
          if (!isAgreed) askNext();
        },
        (error: unknown) => {
          problems.push(toFailure(error));
          settle();
          askNext();
        },
      );
    };
    const askAll = (): void => {
      for (let left = spares.length; left > 0; left -= 1) askNext();
    };
    settle();
    if (untilSpares === undefined) return askAll();
    for (let i = 0; i < required; i += 1) askNext();
    if (spares.length > 0) void untilSpares().then(askAll, () => undefined);
  });
}
