// What the strategies cost, by counting: flushes of random keys into simulated tables, merged until
// nothing is left to do. No disk and no clock, so the figures are the same everywhere.
//
//   node dist/test/bench/compaction-bench.js

import { fileURLToPath } from 'node:url';
import { bytesOf } from '../../actors/storage/compaction-picker.ts';
import { Prng } from '../../runtime/prng.ts';
import { SimulatedTables } from '../storage/tables-under-test.ts';
import { compactionStrategies } from '../../actors/model/table-choices.ts';

export interface CompactionFigures {
  readonly strategy: string;
  /** Bytes written to tables for each byte flushed. */
  readonly writeAmplification: number;
  /** Bytes of tables for each byte of live records, at the end. */
  readonly spaceAmplification: number;
  readonly tables: number;
  readonly jobs: number;
}

const flushes = 400;
const recordsPerFlush = 500;
const keys = 60_000;
const tableBytes = 50_000;

/** Random overwrites: 200,000 records over 60,000 keys, one flush a second. */
export function compactionFigures(): readonly CompactionFigures[] {
  return compactionStrategies.map((strategy) => {
    const random = new Prng(1);
    const options = { strategy, l0Tables: 4, tableBytes, timeWindowMs: 100_000 };
    const tables = new SimulatedTables(options);
    for (let flush = 0; flush < flushes; flush += 1) {
      tables.nowMs += 1_000;
      tables.flush(Array.from({ length: recordsPerFlush }, () => random.int(keys)));
      while (tables.compact() !== undefined);
    }
    const all = tables.tables;
    const bytesEach = (all[0]?.bytes ?? 0) / (all[0]?.records ?? 1);
    return {
      strategy,
      writeAmplification: tables.writeAmplification,
      spaceAmplification: bytesOf(all) / (tables.numbers().length * bytesEach),
      tables: all.length,
      jobs: tables.jobs,
    };
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  for (const row of compactionFigures())
    process.stdout.write(
      `${row.strategy.padEnd(12)} write x${row.writeAmplification.toFixed(1)}  ` +
        `space x${row.spaceAmplification.toFixed(2)}  ${row.tables} tables  ${row.jobs} jobs\n`,
    );
