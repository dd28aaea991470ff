// Why an edge cannot listen, with what to do about it: for the person who starts a node. An error
// that another address would not cure stays what it is.

import { KvError } from '../runtime/errors.ts';

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
  /** The option that names the port. */
  readonly field: string;
}

/** BAD_REQUEST where another address would do; else the error as it came. */
export function listenError(error: unknown, { host, port, field }: ListenAddress): Error {
  const { code } = error as { readonly code?: string };
  const details: Readonly<Record<string, string>> = {
    EADDRINUSE: `port ${port} of ${host} is taken by another process: stop it or choose another port with --${field}`,
    EACCES: `port ${port} of ${host} needs more rights: choose one above 1023 with --${field}`,
    EADDRNOTAVAIL: `${host} is no address of this machine`,
  };
  const detail = details[code ?? ''];
  if (detail !== undefined) return new KvError('BAD_REQUEST', { field, detail });
  return error instanceof Error ? error : new Error(String(error));
}
