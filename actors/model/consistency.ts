// Consistency levels: how many replicas must answer. All nodes of a cluster are in one datacenter:
// the levels of a datacenter count all replicas.

import { KvError } from '../../runtime/errors.ts';

export const levels = [
  'ANY',
  'ONE',
  'TWO',
  'THREE',
  'QUORUM',
  'LOCAL_ONE',
  'LOCAL_QUORUM',
  'EACH_QUORUM',
  'ALL',
  'SESSION',
  'SERIAL',
  'LOCAL_SERIAL',
] as const;
export type Level = (typeof levels)[number];

const aliases: Readonly<Record<string, Level>> = { EVENTUAL: 'ONE', STRONG: 'ALL' };

const byWord: ReadonlyMap<string, Level> = new Map(levels.map((level) => [level, level]));

/** Case does not matter. BAD_REQUEST for an unknown word. */
export function parseLevel(text: string): Level {
  const asWritten = byWord.get(text);
  if (asWritten !== undefined) return asWritten;
  const word = text.trim().toUpperCase();
  const level = aliases[word] ?? byWord.get(word);
  if (level === undefined)
    throw new KvError('BAD_REQUEST', {
      field: 'Consistency-Level',
      detail: `unknown consistency level; expected one of ${levels.join(', ')}`,
    });
  return level;
}

export const isSerial = (level: Level): boolean => level === 'SERIAL' || level === 'LOCAL_SERIAL';

/** A level of plain reads and writes. BAD_REQUEST for the serial ones: those are decided, not counted. */
export function parsePlainLevel(text: string): Level {
  const level = parseLevel(text);
  if (isSerial(level))
    throw new KvError('BAD_REQUEST', {
      field: 'Consistency-Level',
      detail: `${level} is a level of single keys and batches, not of this request`,
    });
  return level;
}

export const quorumOf = (replicas: number): number => Math.floor(replicas / 2) + 1;

/** Answers needed of `replicas` natural replicas; THREE of two replicas can never be met. */
export function requiredAcks(level: Level, replicas: number): number {
  switch (level) {
    // Where no replica answers, a write at ANY is content with a hint: its coordinator sees to that.
    case 'ANY':
    // What more a session asks is decided by its token.
    case 'SESSION':
    case 'ONE':
    case 'LOCAL_ONE':
      return 1;
    case 'TWO':
      return 2;
    case 'THREE':
      return 3;
    case 'QUORUM':
    case 'LOCAL_QUORUM':
    case 'EACH_QUORUM':
    // A serial operation is decided by a majority; who runs it is not the coordinator.
    case 'SERIAL':
    case 'LOCAL_SERIAL':
      return quorumOf(replicas);
    case 'ALL':
      return replicas;
  }
}
