// Messages of the audit log (rule SE-29): what somebody who looks after a cluster has to be able to
// read later.

import { protocol, tell } from '../../runtime/protocol.ts';

/** One line of the log. Nothing in it is a token or a value. */
export interface AuditEntry {
  /** Name of the user; empty: nobody, or the node asks nobody who he is. */
  readonly user: string;
  /** Address of the client, without a port; empty where there is none. */
  readonly address: string;
  /** Name of a route (http-routes.ts) or of a command of the Redis protocol. */
  readonly act: string;
  /** What it was about: the name of a namespace, a user, a snapshot; empty: the cluster. */
  readonly target: string;
  /** `done`, or the code of an error. */
  readonly outcome: string;
}

export const Auditor = protocol('auditor', 36, {
  /** Best effort under overload: what was left out is counted in the next line. */
  happened: tell<AuditEntry>(1, { lane: 'control' }),
});
export type Auditor = typeof Auditor.messages;
