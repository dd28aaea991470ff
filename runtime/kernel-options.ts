// What a kernel is made from. One kernel runs the actors of one thread; everything that it needs of the
// world comes in here, so that the same kernel runs in a node, in the simulator and in tests.

import type { Host } from './environment.ts';
import type { Router, Transcode } from './envelope.ts';
import type { Protocol } from './protocol.ts';

export interface KernelOptions {
  readonly node: string;
  /** Names this thread in logs. */
  readonly thread: string;
  readonly host: Host;
  readonly router: Router;
  /** All protocols of the program: what may be sent. */
  readonly protocols: readonly Protocol[];
  /**
   * Encodes and decodes a body that stays on this thread, so that no two actors share memory.
   * The simulator and the tests set it (rule SIM-5).
   */
  readonly transcode?: Transcode;
}
