// The log that actors see: a line that is written in a turn of a traced message carries its trace id,
// so that what several actors, threads and nodes say of one request can be found together. What is
// written after a wait of a session, or by a timer, is of no turn and carries none.

import type { Log, LogFields } from './environment.ts';

/** `traceOf`: the trace id of the turn that runs; empty: none. Nothing is made where nothing is said. */
export function tracedLog(log: Log, traceOf: () => string): Log {
  const traced = (fields: LogFields | undefined): LogFields | undefined => {
    const trace = traceOf();
    return trace === '' ? fields : { trace, ...fields };
  };
  return {
    debug: (event, fields) => log.debug(event, traced(fields)),
    info: (event, fields) => log.info(event, traced(fields)),
    warn: (event, fields) => log.warn(event, traced(fields)),
    error: (event, fields) => log.error(event, traced(fields)),
  };
}
