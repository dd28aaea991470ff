// Keys that expire: each is put once, at a quorum, with a lifetime of seconds, and read again and
// again, also at the end of the run. When it must be there and when it must be gone for good is the
// business of CK-7.

import { utf8 } from '../../runtime/bytes.ts';
import type { Prng } from '../../runtime/prng.ts';
import type { Outcome, Phase } from '../history.ts';
import type { Settlement, Workload, WorkloadContext, WorkloadKind } from '../workload.ts';
import { ClientLoop, perSecondOf } from './client-loop.ts';
import { type Asker, HttpClient, type Request } from './http-client.ts';

export const expiryWorkloadName = 'expiries';

interface ExpiryOptions {
  readonly clients: number;
  readonly ttlSecondsMax: number;
  readonly thinkMs: number;
}

const timeoutMs = 3_000;
/** Keys of which a reader picks one: the last that were written. */
const recentKeys = 12;

class Expiries implements Workload {
  readonly #context: WorkloadContext;
  readonly #options: ExpiryOptions;
  readonly #client: HttpClient;
  readonly #loop: ClientLoop;
  #keys = 0;

  constructor(context: WorkloadContext, options: ExpiryOptions) {
    this.#context = context;
    this.#options = options;
    this.#client = new HttpClient(context.cluster, context.history, expiryWorkloadName);
    const { clients, thinkMs } = options;
    this.#loop = new ClientLoop(context, {
      clients,
      thinkMs,
      draw: (random) => {
        const request = this.#draw(random);
        return (asker) => this.#perform(asker, request);
      },
    });
  }

  enter(phase: Phase): void {
    this.#client.phase = phase;
  }

  run(): Promise<void> {
    return this.#loop.run();
  }

  stop(): void {
    this.#loop.stop();
  }

  async settle(settlement: Settlement): Promise<void> {
    const keys = Array.from({ length: this.#keys }, (_, i) => `expiry-${i}`);
    const asker = { process: -1, client: -1, turn: -1 };
    await settlement.forEach(keys, (key) =>
      settlement.untilOk(`get ${key}`, async (node) => {
        const request: Request = { kind: 'get', key, node, level: 'QUORUM', timeoutMs };
        return (await this.#client.perform(asker, request)).operation;
      }),
    );
  }

  #draw(random: Prng): Request {
    const node = random.pick(this.#context.cluster.names);
    const common = { node, level: 'QUORUM', timeoutMs };
    const back = random.int(recentKeys);
    const seconds = random.between(1, this.#options.ttlSecondsMax);
    if (this.#keys > 0 && random.chance(0.7)) {
      const key = `expiry-${Math.max(0, this.#keys - 1 - back)}`;
      return { ...common, kind: 'get', key };
    }
    const key = `expiry-${this.#keys}`;
    this.#keys += 1;
    return {
      ...common,
      kind: 'put',
      key,
      value: utf8.encode(key),
      query: { ttl: String(seconds) },
      ttlMs: seconds * 1000,
    };
  }

  async #perform(asker: Asker, request: Request): Promise<Outcome> {
    return (await this.#client.perform(asker, request)).operation.outcome;
  }
}

export const expiryWorkload: WorkloadKind = {
  name: expiryWorkloadName,
  prepare: (random) => {
    if (random.chance(0.6)) return undefined;
    const options: ExpiryOptions = {
      clients: random.between(1, 3),
      ttlSecondsMax: random.pick([3, 15]),
      thinkMs: random.logUniform(200, 800),
    };
    return {
      name: expiryWorkloadName,
      summary: `clients=${options.clients} ttl=${options.ttlSecondsMax}s`,
      perSecond: perSecondOf(options),
      create: (context) => new Expiries(context, options),
    };
  },
};
