// `kvctl completion bash|zsh|fish`: a script for the shell, made from the commands as they are. The
// names are in the script itself: completing starts no process.

import { Argument, type Command } from 'commander';
import type { Invoke } from './data.ts';

const shells = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof shells)[number];

/** What may stand after the words of a command line. */
export interface Completions {
  /** Words after `kvctl`, separated by spaces; empty: kvctl itself. */
  readonly path: string;
  readonly words: readonly string[];
}

export function addCompletionCommand(program: Command, invoke: Invoke): void {
  program
    .command('completion')
    .description('a completion script: source <(kvctl completion bash)')
    .addArgument(new Argument('<shell>', 'for which shell').choices(shells))
    .action((shell: Shell, _options: object, command: Command) =>
      invoke(command).write(scripts[shell](completionsOf(program))),
    );
}

/** Of the program and of every command below it, hidden ones left out. */
export function completionsOf(program: Command): readonly Completions[] {
  const found: Completions[] = [];
  const global = longOptions(program);
  const visit = (command: Command, path: string): void => {
    const visible = command.createHelp().visibleCommands(command);
    const below = visible.filter((one) => one.name() !== 'help');
    const own = command === program ? [] : longOptions(command);
    const words = [...below.map((one) => one.name()), ...own, ...global];
    found.push({ path, words: [...new Set(words)] });
    for (const one of below) visit(one, path === '' ? one.name() : `${path} ${one.name()}`);
  };
  visit(program, '');
  return found;
}

const longOptions = (command: Command): string[] =>
  command.options.flatMap(({ long, hidden }) =>
    typeof long === 'string' && !hidden ? [long] : [],
  );

const bash = (rows: readonly Completions[]): string => `_kvctl() {
  local current="\${COMP_WORDS[COMP_CWORD]}" path="" words="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "\${path:+$path }\${COMP_WORDS[i]}" in
${rows
  .filter(({ path }) => path !== '')
  .map(({ path }) => `      '${path}') path='${path}' ;;`)
  .join('\n')}
    esac
  done
  case "$path" in
${rows.map(({ path, words }) => `    '${path}') words='${words.join(' ')}' ;;`).join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _kvctl kvctl
`;

const zsh = (rows: readonly Completions[]): string =>
  `autoload -U +X bashcompinit && bashcompinit\n${bash(rows)}`;

const fish = (rows: readonly Completions[]): string =>
  rows
    .flatMap(({ path, words }) => {
      const seen = path.split(' ').map((word) => `__fish_seen_subcommand_from ${word}`);
      const condition = path === '' ? '__fish_use_subcommand' : seen.join('; and ');
      return words.map((word) => {
        const what = word.startsWith('--') ? `-l ${word.slice(2)}` : `-f -a ${word}`;
        return `complete -c kvctl -n '${condition}' ${what}\n`;
      });
    })
    .join('');

const scripts: Readonly<Record<Shell, (rows: readonly Completions[]) => string>> = {
  bash,
  zsh,
  fish,
};
