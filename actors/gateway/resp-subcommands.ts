// Commands of the Redis protocol whose second word says what to do, such as CLIENT and SLOWLOG: which
// words there are, how many arguments each takes, and what others hear.

import { printableOf, type RespCall, wordOf } from './resp-call.ts';
import { errorReply, type Reply } from './resp-replies.ts';
import type { RespHandler, RespServices } from './resp-services.ts';

export type Subcommand = (call: RespCall, services: RespServices) => Reply;

/** Subcommands with their count of arguments, at least and at most. */
type Subcommands = Readonly<Record<string, readonly [least: number, most: number, Subcommand]>>;

/** The command that looks at its second word. */
export const withSubcommands =
  (name: string, commands: Subcommands): RespHandler =>
  (call, services) => {
    const word = wordOf(call.arg(1));
    const found = Object.hasOwn(commands, word) ? commands[word] : undefined;
    if (found === undefined)
      return call.answer(
        errorReply(
          `ERR unknown subcommand '${printableOf(call.arg(1))}'. Try ${name.toUpperCase()} HELP.`,
        ),
      );
    const [least, most, run] = found;
    const { length } = call.args;
    if (length < least || length > most)
      return call.answer(errorReply(`ERR wrong number of arguments for '${name}|${word}' command`));
    call.answer(run(call, services));
  };
