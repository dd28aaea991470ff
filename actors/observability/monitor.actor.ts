// Answers for the figures of its thread. Registries and kernels are not shared between threads;
// who wants the whole node asks every monitor and adds up.

import { actor } from '../../runtime/actor.ts';
import type { MetricSample } from '../../runtime/metrics.ts';
import type { Handlers } from '../../runtime/protocol.ts';
import { Monitor } from './protocol.ts';

export interface MonitorOptions {
  /** All figures of this thread: mailboxes and what actors count. */
  readonly samples: () => readonly MetricSample[];
}

class MonitorActor implements Handlers<Monitor> {
  readonly #options: MonitorOptions;

  constructor(options: MonitorOptions) {
    this.#options = options;
  }

  samples(): { readonly samples: readonly MetricSample[] } {
    return { samples: this.#options.samples() };
  }
}

export const monitor = actor({
  protocol: Monitor,
  create: (_ctx, options: MonitorOptions) => new MonitorActor(options),
});
