// Conditions of put and del: options of the command line as headers of the request. A request under
// a condition carries an id, so that trying again after a lost answer gives the first result instead
// of a second one (rule ID-2).

import { randomUUID } from 'node:crypto';
import { type Command, Option } from 'commander';

/** Conditions of put and del. */
export interface ConditionOptions {
  readonly ifNotExists?: boolean;
  readonly ifExists?: boolean;
  readonly ifMatch?: string;
  readonly requestId?: string;
  /** Where siblings are kept: of the `get` whose values the write takes the place of. */
  readonly context?: string;
}

/** Adds the options of ConditionOptions; a delete has no use for a key that is not there. */
export function addConditions(command: Command, mayBeAbsent: boolean): Command {
  const others = ['ifNotExists', 'ifExists', 'ifMatch'];
  const exclusive = (flags: string, what: string, name: string): Option =>
    new Option(flags, what).conflicts(others.filter((other) => other !== name));
  if (mayBeAbsent)
    command.addOption(
      exclusive('--if-not-exists', 'only where there is no such key', 'ifNotExists'),
    );
  return command
    .addOption(exclusive('--if-exists', 'only where there is one', 'ifExists'))
    .addOption(exclusive('--if-match <etag>', 'only where its etag is this one', 'ifMatch'))
    .option('--context <text>', 'of a get with several values: this write takes their place')
    .addOption(requestIdOption());
}

export const requestIdOption = (): Option =>
  new Option('--request-id <id>', 'done once however often it is sent; default: a new one');

/** Headers of a put or delete under these conditions; a plain one has none. */
export function conditionHeaders(options: ConditionOptions): Readonly<Record<string, string>> {
  const { ifNotExists, ifExists, ifMatch, requestId, context } = options;
  const seen: Record<string, string> = context === undefined ? {} : { 'x-causal-context': context };
  const condition: Record<string, string> = {};
  if (ifNotExists === true) condition['if-none-match'] = '*';
  if (ifExists === true) condition['if-match'] = '*';
  if (ifMatch !== undefined) condition['if-match'] = quoted(ifMatch);
  if (Object.keys(condition).length === 0 && requestId === undefined) return seen;
  return { ...seen, ...condition, 'x-request-id': requestId ?? randomUUID() };
}

const quoted = (etag: string): string => (etag.startsWith('"') ? etag : `"${etag}"`);
