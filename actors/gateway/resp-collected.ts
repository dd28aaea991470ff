// What the handlers of queued commands meet in place of the cluster: every read and write of theirs
// becomes a command of a transaction, and what they wait for is kept until its result is known.

import { failure } from '../../runtime/errors.ts';
import { noEtag, recordEtag, recordExpiresAt, recordVersion } from '../model/record.ts';
import {
  type CommandResult,
  plainSerial,
  type SerialRequest,
  type TransactionCommand,
  type TransactionReply,
  type WriteReply,
} from '../replication/protocol.ts';
import type { RespCall } from './resp-call.ts';
import { fail, type NewValue, type RespKeysLimits, refusalOf } from './resp-keys.ts';
import type { Atomic, KeyAccess, RespServices } from './resp-services.ts';
import { outcomeOfStep, serialTermsOf } from './serial-operations.ts';

interface Collected {
  readonly call: RespCall;
  readonly command: TransactionCommand;
  readonly done: (result: CommandResult, nowMs: number) => void;
}

export class Collector {
  readonly #limits: RespKeysLimits;
  readonly #collected: Collected[] = [];

  constructor(limits: RespKeysLimits) {
    this.#limits = limits;
  }

  get commands(): readonly TransactionCommand[] {
    return this.#collected.map(({ command }) => command);
  }

  /** The handlers' services, which collect. */
  servicesFor(services: RespServices): RespServices {
    const atomic: Atomic = (call, command, done) => this.#add(call, command, done);
    return { ...services, keys: this.#keys(), serial: this.#serial(), atomic };
  }

  /** What was collected ends with its results. */
  settle({ results, nowMs, coordinator }: Omit<TransactionReply, 'isApplied'>): void {
    this.#collected.forEach(({ call, done }, i) => {
      endWith(call, results[i], coordinator, (result) => done(result, nowMs));
    });
  }

  #add(call: RespCall, command: TransactionCommand, done: Collected['done']): void {
    this.#collected.push({ call, command, done });
  }

  #plain(
    call: RespCall,
    operations: readonly SerialRequest[],
    done: (result: CommandResult, nowMs: number) => void,
  ): void {
    for (const { key, value } of operations) {
      const refusal = refusalOf(this.#limits, key, value);
      if (refusal !== undefined) return fail(call, refusal);
    }
    this.#add(call, { conditions: [], operations }, done);
  }

  #keys(): KeyAccess {
    const notOfUsers = (call: RespCall): void => fail(call, failure('BUG'));
    return {
      readFrom: notOfUsers,
      writeTo: notOfUsers,
      writeAllTo: notOfUsers,
      read: (call, key, found) =>
        this.#plain(call, [readOf(call, key)], ({ steps }, nowMs) =>
          found(steps[0]?.record, nowMs),
        ),
      readAll: (call, keys, found) => {
        const reads = keys.map((key) => readOf(call, key));
        this.#plain(call, reads, ({ steps }) => found(steps.map(({ record }) => record)));
      },
      write: (call, item, written) =>
        this.#plain(call, [writeOf(call, item)], (result) => written(writtenOf(result))),
      writeAll: (call, items, written) => {
        const writes = items.map((item) => writeOf(call, item));
        this.#plain(call, writes, ({ steps }) =>
          written(steps.filter(({ before }) => before !== undefined).length),
        );
      },
    };
  }

  #serial(): RespServices['serial'] {
    return {
      change: ({ call, key, change }, _what, _deadlineMs, done) => {
        const operation = { ...serialTermsOf(change), namespace: call.namespace, key };
        this.#plain(call, [operation], ({ steps }) => {
          const [step] = steps;
          if (step === undefined) done(failure('BUG'), undefined);
          else done(undefined, outcomeOfStep(step));
        });
      },
    };
  }
}

/** What a command of a transaction has come to; a problem ends the call with its error. */
export function endWith(
  call: RespCall,
  result: CommandResult | undefined,
  coordinator: string,
  done: (result: CommandResult) => void,
): void {
  if (result === undefined) fail(call, failure('BUG', { node: coordinator }));
  else if (result.problem === undefined) done(result);
  else fail(call, result.problem);
}

const readOf = ({ namespace }: RespCall, key: Uint8Array): SerialRequest => ({
  ...{ ...plainSerial, namespace, key, verb: 'read' },
});

function writeOf({ namespace }: RespCall, item: NewValue): SerialRequest {
  const { key, value, valueType, ttlMs } = item;
  const verb = value === undefined ? 'delete' : 'write';
  return { ...plainSerial, namespace, key, verb, value, valueType, ttlMs };
}

function writtenOf({ steps }: CommandResult): WriteReply {
  const [step] = steps;
  const record = step?.record;
  return {
    ...(record === undefined ? (step?.stored ?? noEtag) : recordEtag(record)),
    version: record === undefined ? 0 : recordVersion(record),
    expiresAt: record === undefined ? 0 : recordExpiresAt(record),
    existed: step?.before !== undefined,
    coordinator: '',
    explanation: undefined,
  };
}
