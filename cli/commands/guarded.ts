// Ends of commands that work on files: what the file system and the formats refuse becomes one
// sentence and an exit code.

import { CorruptionError, KvError } from '../../runtime/errors.ts';
import { ExitError, exitCodes } from './invocation.ts';

export async function guarded(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (error instanceof CorruptionError) throw new ExitError(exitCodes.refused, error.message);
    if (error instanceof KvError) throw new ExitError(codeOf(error), error.message);
    const { code, path } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') throw new ExitError(exitCodes.notFound, `${path ?? ''}: not there`);
    throw error;
  }
}

function codeOf({ code }: KvError): number {
  if (code === 'BAD_REQUEST') return exitCodes.usage;
  return code === 'NOT_FOUND' ? exitCodes.notFound : exitCodes.refused;
}
