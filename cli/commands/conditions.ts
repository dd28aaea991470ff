// Conditions of put and del: options of the command line as headers of the request. A request under
// a condition or at level SERIAL is decided and carries an id, so that trying again after a lost
// answer gives the first result instead of a second one (rule ID-2). A plain one has no use for an
// id: sent again it is a new version, so it is sent once where its outcome is unknown.

import { randomUUID } from 'node:crypto';
import { type Command, Option } from 'commander';
import type { ClientRequest } from '../client/http-exchange.ts';
import { isSerialLevel } from '../client/key-requests.ts';
import { ExitError, exitCodes } from './invocation.ts';

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
  new Option(
    '--request-id <id>',
    'of a decided write: done once however often it is sent; default: a new one',
  );

/**
 * How a put or delete is sent under these conditions, at the level that is asked for. A usage error
 * for a request id that would have no effect.
 */
export function writeTerms(
  options: ConditionOptions,
  level: string | undefined,
): Pick<ClientRequest, 'isIdempotent' | 'isWrite'> & Pick<Required<ClientRequest>, 'headers'> {
  const { ifNotExists, ifExists, ifMatch, requestId, context } = options;
  const seen: Record<string, string> = context === undefined ? {} : { 'x-causal-context': context };
  const condition: Record<string, string> = {};
  if (ifNotExists === true) condition['if-none-match'] = '*';
  if (ifExists === true) condition['if-match'] = '*';
  if (ifMatch !== undefined) condition['if-match'] = quoted(ifMatch);
  const isDecided = Object.keys(condition).length > 0 || isSerialLevel(level);
  if (isDecided) {
    const id = { 'x-request-id': requestId ?? randomUUID() };
    return { headers: { ...seen, ...condition, ...id }, isIdempotent: true, isWrite: true };
  }
  if (requestId !== undefined)
    throw new ExitError(
      exitCodes.usage,
      '--request-id: expected a condition or --consistency SERIAL with it, a plain write has no use for it',
    );
  return { headers: seen, isIdempotent: false, isWrite: true };
}

const quoted = (etag: string): string => (etag.startsWith('"') ? etag : `"${etag}"`);
