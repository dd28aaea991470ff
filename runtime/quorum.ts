// Asks several nodes the same and ends as soon as enough of them have said yes, or too few still
// can. What comes later is looked at by nobody.

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
): Promise<Votes<Reply>> {
  const yes: { node: string; reply: Reply }[] = [];
  const no: Reply[] = [];
  const problems: Failure[] = [];
  return new Promise((resolve) => {
    const settle = (): void => {
      const isEnough = yes.length >= required;
      const open = nodes.length - yes.length - no.length - problems.length;
      if (isEnough || yes.length + open < required)
        resolve({ yes: [...yes], no: [...no], problems: [...problems], isEnough });
    };
    for (const node of nodes)
      void ask(node).then(
        (reply) => {
          if (isYes(reply)) yes.push({ node, reply });
          else no.push(reply);
          settle();
        },
        (error: unknown) => {
          problems.push(toFailure(error));
          settle();
        },
      );
    settle();
  });
}
