// Clients that take turns: each sleeps, draws its next operation, and runs it unless a shrunk run
// leaves it out. A client that cannot know an outcome is retired and replaced by a new one, for its
// operation stays open for ever (Knossos).

import type { Prng } from '../../runtime/prng.ts';
import type { Outcome } from '../history.ts';
import type { WorkloadContext } from '../workload.ts';
import type { Asker } from './http-client.ts';

export interface ClientLoopOptions {
  readonly clients: number;
  /** Mean pause of a client between two operations, milliseconds. */
  readonly thinkMs: number;
  /** The next operation of a client; it must draw all that it needs before it returns. */
  readonly draw: (random: Prng, client: number) => (asker: Asker) => Promise<Outcome>;
}

export class ClientLoop {
  readonly #context: WorkloadContext;
  readonly #options: ClientLoopOptions;
  #processes = 0;
  #isStopping = false;

  constructor(context: WorkloadContext, options: ClientLoopOptions) {
    this.#context = context;
    this.#options = options;
  }

  async run(): Promise<void> {
    const { clients } = this.#options;
    await Promise.all(Array.from({ length: clients }, (_, i) => this.#client(i)));
  }

  stop(): void {
    this.#isStopping = true;
  }

  /** A number for a process of the history that has not been used. */
  newProcess(): number {
    this.#processes += 1;
    return this.#processes;
  }

  async #client(client: number): Promise<void> {
    const { random: all, cluster, pace, isKept } = this.#context;
    const random = all.fork(`client-${client}`);
    let process = this.newProcess();
    for (let turn = 0; !this.#isStopping; turn += 1) {
      await cluster.world.sleep(random.exponential(this.#options.thinkMs * pace));
      const perform = this.#options.draw(random, client);
      if (!isKept(client, turn)) continue;
      const outcome = await perform({ process, client, turn });
      if (outcome === 'info') process = this.newProcess();
    }
  }
}

/** What the clients of a loop ask for where every answer is there at once, per second. */
export const perSecondOf = ({
  clients,
  thinkMs,
}: Pick<ClientLoopOptions, 'clients' | 'thinkMs'>): number => (clients * 1000) / thinkMs;
