// What tests of the client library share.

import { ClientError } from '../cli/client/kvd-client.ts';

/** The code that the promise rejects with, `none` where it does not; anything else is thrown on. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof ClientError) return error.code;
    throw error;
  }
  return 'none';
}
