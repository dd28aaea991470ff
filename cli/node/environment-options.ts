// KVD_* variables: the options of a node in upper case. A variable that is none is refused with the
// nearest that is one: a typo must not start a node with other settings than its operator believes.
//
// Kubernetes sets variables for each service of a namespace; for one with the name `kvd` they begin
// with KVD_SERVICE_ and KVD_PORT and are nobody's typo.

import { KvError } from '../../runtime/errors.ts';

const ofKubernetes = /^KVD_(SERVICE_(HOST|PORT)|PORT(_\d+_|$))/;
/** For the project's own tests; a node does not look at them. */
const ofTests = /^KVD_(TEST_|GOLDEN$|REWRITE_GOLDEN$|RECORDS$)/;

export const variableOf = (option: string): string =>
  `KVD_${option.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;

/** The options that are set; empty ones are not. BAD_REQUEST names an unknown variable. */
export function environmentOptions(
  environment: Readonly<Record<string, string | undefined>>,
  options: readonly string[],
): Record<string, string> {
  const byVariable = new Map(options.map((option) => [variableOf(option), option]));
  const found: Record<string, string> = {};
  for (const [variable, value] of Object.entries(environment)) {
    if (!variable.startsWith('KVD_') || value === undefined || value === '') continue;
    const option = byVariable.get(variable);
    if (option !== undefined) found[option] = value;
    else if (!ofKubernetes.test(variable) && !ofTests.test(variable))
      throw new KvError('BAD_REQUEST', {
        field: variable,
        detail: `unknown variable ${variable}; the nearest known is ${nearest(variable, [...byVariable.keys()])}`,
      });
  }
  return found;
}

/** The candidate with the fewest letters to change, the first of several. */
export function nearest(text: string, candidates: readonly string[]): string {
  let best = '';
  let fewest = Infinity;
  for (const candidate of candidates) {
    const distance = editDistance(text, candidate);
    if (distance >= fewest) continue;
    fewest = distance;
    best = candidate;
  }
  return best;
}

/** Levenshtein's distance by rows: inserted, removed and exchanged letters. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 0; i < a.length; i += 1) {
    const next = [i + 1];
    for (let j = 0; j < b.length; j += 1) {
      const exchanged = (row[j] as number) + (a[i] === b[j] ? 0 : 1);
      next.push(Math.min(exchanged, (row[j + 1] as number) + 1, (next[j] as number) + 1));
    }
    row = next;
  }
  return row[b.length] as number;
}
