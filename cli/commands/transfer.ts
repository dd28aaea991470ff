// Commands that move many records: import and export, as JSON lines, streaming in bounded memory.
// What is imported with --key-field is stored byte for byte; `export -o raw` gives those lines back.

import { createReadStream, createWriteStream, statSync, type WriteStream } from 'node:fs';
import { finished } from 'node:stream/promises';
import type { Command } from 'commander';
import { type ImportFigures, Importer } from '../client/import-records.ts';
import { linesOf, unpacked } from '../client/lines.ts';
import { readPages } from '../client/pages.ts';
import { type Invoke, oneLine, recordLine, wholeNumber } from './data.ts';
import { ExitError, exitCodes, type Invocation } from './invocation.ts';
import { startProgress } from './progress.ts';

const importDeadlineMs = 60_000;
const importAttemptsMax = 40;
const exportPageRows = 500;

export function addTransferCommands(program: Command, invoke: Invoke): void {
  program
    .command('import <file>')
    .description('load JSON lines, plain or gzip; - reads stdin')
    .option('--key-field <name>', 'the member that is the key; the value is the whole line')
    .option('--prefix <text>', 'put before every key', '')
    .option('--parallel <count>', 'requests at the same time', wholeNumber(1, 1024), 16)
    .option('--batch <count>', 'records in one request', wholeNumber(1, 1000), 100)
    .option('--ack-log <file>', 'write the key of every acknowledged record, one a line')
    .action((file: string, options: ImportArguments, command: Command) =>
      importFile(invoke(command), file, options),
    );
  program
    .command('export <file>')
    .description('write all records as JSON lines; - is stdout. -o raw: the values alone')
    .option('--prefix <text>', 'only keys that start with it', '')
    .action((file: string, options: { prefix: string }, command: Command) =>
      exportFile(invoke(command), file, options.prefix),
    );
}

interface ImportArguments {
  readonly keyField?: string;
  readonly prefix: string;
  readonly parallel: number;
  readonly batch: number;
  readonly ackLog?: string;
}

/** Where bytes come from, and how far they are read. */
interface Source {
  readonly chunks: AsyncIterable<Buffer>;
  readonly totalBytes: number | undefined;
  readonly bytesRead: () => number;
}

function openSource(invocation: Invocation, file: string): Source {
  if (file === '-') {
    let read = 0;
    const counted = async function* (): AsyncGenerator<Buffer> {
      for await (const chunk of invocation.io.stdin as AsyncIterable<Buffer>) {
        read += chunk.length;
        yield Buffer.from(chunk);
      }
    };
    return { chunks: counted(), totalBytes: undefined, bytesRead: () => read };
  }
  const { size } = fileStats(file);
  const stream = createReadStream(file, { highWaterMark: 256 * 1024 });
  const chunks = stream as AsyncIterable<Buffer>;
  return { chunks, totalBytes: size, bytesRead: () => stream.bytesRead };
}

function fileStats(file: string): { readonly size: number } {
  try {
    return statSync(file);
  } catch (error) {
    throw new ExitError(exitCodes.usage, `cannot read ${file}: ${(error as Error).message}`);
  }
}

async function importFile(
  invocation: Invocation,
  file: string,
  { keyField, prefix, parallel, batch, ackLog }: ImportArguments,
): Promise<void> {
  const form = invocation.form('table');
  const source = openSource(invocation, file);
  const acks = ackLog === undefined ? undefined : await openTarget(ackLog);
  const { stderr } = invocation.io;
  const { totalBytes } = source;
  const { isQuiet } = invocation;
  const progress = startProgress({ stream: stderr, totalBytes, isQuiet, unit: 'records' });
  const startedMs = performance.now();
  let figures: ImportFigures | undefined;
  let ended: ImportFigures;
  try {
    ended = await invocation.withClient(
      (client) => {
        const importer = new Importer({
          client,
          lines: linesOf(unpacked(source.chunks)),
          keyField,
          prefix: invocation.key(prefix),
          parallel,
          batchRecords: batch,
          onAcked: (keys) => {
            acks?.write(`${keys.join('\n')}\n`);
            progress.update(source.bytesRead(), importer.figures.records);
          },
        });
        ({ figures } = importer);
        return importer.run();
      },
      {
        deadlineMs: importDeadlineMs,
        attemptsMax: importAttemptsMax,
        connectionsMax: parallel,
      },
    );
  } finally {
    // Also where the file breaks off: what was stored is said before what went wrong.
    progress.stop();
    await closed(acks);
    if (figures !== undefined)
      await summarize(invocation, form, figures, (performance.now() - startedMs) / 1000);
  }
  judge(ended);
}

/** A file to write to, open. */
function openTarget(file: string): Promise<WriteStream> {
  const stream = createWriteStream(file);
  return new Promise((resolve, reject) => {
    stream.once('open', () => resolve(stream));
    stream.once('error', (error) => {
      reject(new ExitError(exitCodes.usage, `cannot write ${file}: ${error.message}`));
    });
  });
}

async function closed(stream: WriteStream | undefined): Promise<void> {
  if (stream === undefined) return;
  stream.end();
  await finished(stream);
}

async function summarize(
  invocation: Invocation,
  form: string,
  figures: ImportFigures,
  seconds: number,
): Promise<void> {
  const { records, bytes, retries, failed, unknown, problems } = figures;
  const rounded = Math.round(seconds * 1000) / 1000;
  for (const { line, key, detail } of problems)
    invocation.io.stderr.write(`kvctl: line ${line}${key === '' ? '' : ` (${key})`}: ${detail}\n`);
  if (form === 'json')
    await invocation.json({ records, bytes, seconds: rounded, retries, failed, unknown });
  else {
    const rate = Math.round(records / Math.max(seconds, 0.001));
    await invocation.say(
      `${records} records, ${bytes} bytes in ${rounded} s (${rate} records/s), ` +
        `${retries} retries, ${failed} failed, ${unknown} of them with unknown outcome`,
    );
  }
}

function judge({ unknown, failed }: ImportFigures): void {
  if (unknown > 0) throw new ExitError(exitCodes.outcomeUnknown, `${unknown} outcomes unknown`);
  if (failed > 0) throw new ExitError(exitCodes.refused, `${failed} records were not stored`);
}

async function exportFile(invocation: Invocation, file: string, prefix: string): Promise<void> {
  const form = invocation.form('jsonl', ['jsonl', 'raw']);
  const { isQuiet } = invocation;
  const { stderr } = invocation.io;
  const target = file === '-' ? undefined : await openTarget(file);
  const progress = startProgress({
    stream: stderr,
    totalBytes: undefined,
    isQuiet,
    unit: 'records',
  });
  let records = 0;
  let bytes = 0;
  try {
    await invocation.withClient(async (client) => {
      const query = {
        path: '/api/v1/keys',
        prefix: invocation.key(prefix),
        pageRows: exportPageRows,
        withValues: true,
      } as const;
      for await (const items of readPages(client, query)) {
        const lines = items.map((item) =>
          form === 'raw' ? oneLine(item.value ?? Buffer.alloc(0)) : recordLine(item),
        );
        const page = Buffer.concat(lines.flatMap((line) => [line, newline]));
        records += items.length;
        bytes += page.length;
        await writeTo(invocation, target, page);
        progress.update(bytes, records);
      }
    });
  } finally {
    progress.stop();
    await closed(target);
  }
  if (!isQuiet) stderr.write(`${records} records, ${bytes} bytes\n`);
}

const newline = Buffer.from('\n');

async function writeTo(
  invocation: Invocation,
  target: WriteStream | undefined,
  data: Buffer,
): Promise<void> {
  if (target === undefined) return invocation.write(data);
  await new Promise<void>((resolve, reject) => {
    target.write(data, (error) => {
      if (error === null || error === undefined) resolve();
      else reject(new ExitError(exitCodes.refused, `cannot write: ${error.message}`));
    });
  });
}
