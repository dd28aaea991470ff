// Clients with sessions: each carries the token of its last answer to whichever node it asks next, at
// any level, on a few keys that all of them write. What a session may never see is the business of
// CK-5.
//
// An answer that does not come leaves the token as it was: the session was told nothing.

import { utf8 } from '../../runtime/bytes.ts';
import type { Prng } from '../../runtime/prng.ts';
import type { Outcome, Phase } from '../history.ts';
import type { Workload, WorkloadContext, WorkloadKind } from '../workload.ts';
import { ClientLoop, perSecondOf } from './client-loop.ts';
import { type Asker, HttpClient, type Request } from './http-client.ts';

export const sessionWorkloadName = 'sessions';

interface SessionOptions {
  readonly clients: number;
  readonly keys: number;
  readonly thinkMs: number;
  readonly readRatio: number;
  readonly timeoutMs: number;
}

/** A client begins a new session with this chance. */
const renewalRatio = 0.03;
const levels = ['SESSION', 'SESSION', 'ONE', 'QUORUM'];

interface Carried {
  session: number;
  token: string | undefined;
}

class Sessions implements Workload {
  readonly #context: WorkloadContext;
  readonly #options: SessionOptions;
  readonly #client: HttpClient;
  readonly #loop: ClientLoop;
  readonly #carried = new Map<number, Carried>();
  #sessions = 0;
  #writes = 0;

  constructor(context: WorkloadContext, options: SessionOptions) {
    this.#context = context;
    this.#options = options;
    this.#client = new HttpClient(context.cluster, context.history, sessionWorkloadName);
    this.#loop = new ClientLoop(context, {
      clients: options.clients,
      thinkMs: options.thinkMs,
      draw: (random, client) => {
        const { isNew, ...request } = this.#draw(random);
        return (asker) => this.#perform(asker, request, this.#sessionOf(client, isNew));
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

  #draw(random: Prng): Request & { readonly isNew: boolean } {
    const { keys, readRatio, timeoutMs } = this.#options;
    const write = random.chance(0.2) ? 'delete' : 'put';
    const kind = random.chance(readRatio) ? 'get' : write;
    this.#writes += 1;
    return {
      kind,
      key: `session-${random.int(keys)}`,
      node: random.pick(this.#context.cluster.names),
      level: random.pick(levels),
      value: kind === 'put' ? utf8.encode(`s${this.#writes}`) : undefined,
      timeoutMs,
      isNew: random.chance(renewalRatio),
    };
  }

  #sessionOf(client: number, isNew: boolean): Carried {
    const known = this.#carried.get(client);
    if (known !== undefined && !isNew) return known;
    this.#sessions += 1;
    const fresh = { session: this.#sessions, token: undefined };
    this.#carried.set(client, fresh);
    return fresh;
  }

  async #perform(asker: Asker, request: Request, carried: Carried): Promise<Outcome> {
    const { session, token } = carried;
    const headers = token === undefined ? {} : { 'x-session-token': token };
    const { operation, answer } = await this.#client.perform(asker, {
      ...request,
      headers,
      session,
    });
    carried.token = answer?.headers['x-session-token'] ?? token;
    return operation.outcome;
  }
}

export const sessionWorkload: WorkloadKind = {
  name: sessionWorkloadName,
  prepare: (random) => {
    if (random.chance(0.5)) return undefined;
    const options: SessionOptions = {
      clients: random.between(1, 4),
      keys: random.pick([1, 3, 100]),
      thinkMs: random.logUniform(100, 600),
      readRatio: 0.3 + 0.5 * random.float(),
      timeoutMs: random.pick([1_000, 3_000]),
    };
    return {
      name: sessionWorkloadName,
      summary: `clients=${options.clients} keys=${options.keys}`,
      perSecond: perSecondOf(options),
      create: (context) => new Sessions(context, options),
    };
  },
};
