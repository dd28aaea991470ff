// Options that one way of running a command has no use for are refused: taken without a word they
// would make somebody believe that they count.

import type { Command } from 'commander';
import { ExitError, exitCodes } from './invocation.ts';

/**
 * A usage error where options of the command were given that `way` does not take. Only the command's
 * own options are looked at, none of those that every command has.
 */
export function refuseOthers(command: Command, way: string, taken: readonly string[]): void {
  const found = command.options
    .filter((option) => command.getOptionValueSource(option.attributeName()) === 'cli')
    .map(({ long }) => long ?? '')
    .filter((flag) => flag !== way && !taken.includes(flag));
  if (found.length === 0) return;
  const others = taken.length === 0 ? 'no option' : `only ${taken.join(', ')}`;
  throw new ExitError(
    exitCodes.usage,
    `${way}: expected ${others} with it, found ${found.join(', ')}`,
  );
}
