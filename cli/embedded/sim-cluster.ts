// A simulated cluster for the tests of those who use kvd, `kvd/sim`: the actors of real nodes on a
// simulated network, disks and clocks, in this thread, with the client of `kvd/client`. Time is
// virtual: it passes only while the test waits for the cluster. The same seed
// and the same test give the same run.
//
//   const cluster = await createCluster({ seed: 7 });
//   await cluster.client.put('a', 1);
//   cluster.nodes[1].losePower();

import { randomInt } from 'node:crypto';
import type { NodeSettings } from '../../actors/node/plan-settings.ts';
import { tunablesFrom } from '../../actors/node/settings.ts';
import { type MintedToken, mintToken, tokenBytes } from '../../runtime/access-token.ts';
import { KvError } from '../../runtime/errors.ts';
import { type CrashKind, SimCluster } from '../../sim/cluster.ts';
import { kvdCodec, kvdProgram, sharedCodecs } from '../../sim/kvd-program.ts';
import type { NetworkOptions } from '../../sim/sim-network.ts';
import { World } from '../../sim/world.ts';
import type { ClientWorld } from '../client/client-world.ts';
import { connect, type KvdClient } from '../client/kvd-client.ts';
import { SimDriver } from './sim-driver.ts';
import { simUrl, simWorld } from './sim-exchange.ts';

export interface SimClusterOptions {
  /** 1 to 9. Default 3. */
  readonly nodes?: number;
  /** Copies of each key. Default 3, at most the number of nodes. */
  readonly replicationFactor?: number;
  /** A whole number from 0 below 2^32. Default: KVD_SIM_SEED of the environment, else a random one. */
  readonly seed?: number;
  /** Names and values of docs/configuration.md. */
  readonly settings?: Readonly<Record<string, number>>;
  /**
   * Users have to say who they are; `client` is an administrator, `connect` makes clients of others.
   * Default false.
   */
  readonly hasUsers?: boolean;
  /** One way between two nodes or to a client: mean, milliseconds. Default 0.5. */
  readonly latencyMs?: number;
}

const seedMax = 2 ** 32 - 1;
const readyPollMs = 50;
const readyTimeoutMs = 60_000;
/** Little memory for each node: many clusters live in one test process. */
const smallSettings = { memtableBytes: 2 * 1024 * 1024, walSegmentBytes: 1024 * 1024 };

/** Starts a simulated cluster and answers when every node knows of all others. */
export async function createCluster(options: SimClusterOptions = {}): Promise<SimulatedCluster> {
  const { nodes, latencyMs, replicationFactor } = checked(options);
  const seed = seedOf(options);
  const names = Array.from({ length: nodes }, (_, i) => `n${i + 1}`);
  const tunables = tunablesFrom({
    ...smallSettings,
    replicationFactor,
    ...options.settings,
  });
  const world = new World({ seed });
  const first = mintToken(world.random.fork('first token').bytes(tokenBytes));
  const access = usersBegin(first, options);
  const stopped = new Map<string, string>();
  const sim = new SimCluster({
    world,
    names,
    program: kvdProgram({ names, shards: 1, durability: 'group', tunables, access }),
    codec: kvdCodec(),
    codecs: sharedCodecs(),
    network: networkOf(latencyMs),
    onStop: (node, reason) => stopped.set(node, reason),
  });
  const driver = new SimDriver(world);
  await driver.wait<boolean>((done) => void sim.startAll().then(done));
  const urls = names.map((_, i) => simUrl(i));
  const clientWorld = simWorld(sim, driver);
  const token = access && (await firstUser(clientWorld, first.text));
  const terms = { hedgeAfterMs: 'off', ...(token !== undefined && { token }) } as const;
  const client = await connect(urls, terms, clientWorld);
  const cluster = new SimulatedCluster(sim, driver, client, { stopped, token, world: clientWorld });
  await cluster.settled();
  return cluster;
}

const usersBegin = (
  { hash }: MintedToken,
  { hasUsers = false }: SimClusterOptions,
): NodeSettings['access'] => (hasUsers ? { isRequired: true, bootstrapHash: hash } : undefined);

/** Makes the administrator `root`, as soon as there is a quorum to decide it; his token. */
async function firstUser(world: ClientWorld, token: string): Promise<string> {
  const body = Buffer.from('{"name":"root","admin":true}');
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${token}` };
  const path = '/api/v1/admin/users';
  const terms = { isIdempotent: false, isWrite: true };
  const request = { method: 'POST', path, headers, body, ...terms } as const;
  const untilMs = world.nowMs() + readyTimeoutMs;
  for (;;) {
    const outcome = await world.exchange(request, { url: new URL(simUrl(0)), timeoutMs: 5000 });
    if ('answer' in outcome && outcome.answer.status === 200) {
      const made = JSON.parse(outcome.answer.body.toString()) as { token: { token: string } };
      return made.token.token;
    }
    if (world.nowMs() > untilMs) throw new KvError('TIMEOUT', { detail: 'no user can be made' });
    await world.sleep(readyPollMs, undefined);
  }
}

function seedOf({ seed }: SimClusterOptions): number {
  const text = process.env['KVD_SIM_SEED'];
  const chosen = seed ?? (text === undefined ? randomInt(seedMax) : Number(text));
  if (!Number.isInteger(chosen) || chosen < 0 || chosen > seedMax)
    throw refusal('seed', 'a whole number from 0 below 2^32');
  return chosen;
}

const networkOf = (latencyMs: number): NetworkOptions => ({
  minMs: latencyMs / 2,
  meanMs: latencyMs / 2,
  hasSlowTail: false,
  queueLengthMax: 10_000,
  keepAliveMs: 5000,
});

const optionNames: readonly string[] = [
  'nodes',
  'replicationFactor',
  'seed',
  'settings',
  'hasUsers',
  'latencyMs',
] satisfies readonly (keyof SimClusterOptions)[];

/** BAD_REQUEST for what would be ignored, or is out of its range. */
function checked(
  options: SimClusterOptions,
): Required<Pick<SimClusterOptions, 'nodes' | 'latencyMs' | 'replicationFactor'>> {
  const unknown = Object.keys(options).find((name) => !optionNames.includes(name));
  if (unknown !== undefined) throw refusal(unknown, `one of the options ${optionNames.join(', ')}`);
  const { nodes = 3, latencyMs = 0.5 } = options;
  if (!Number.isInteger(nodes) || nodes < 1 || nodes > 9) throw refusal('nodes', '1 to 9');
  const { replicationFactor = Math.min(3, nodes) } = options;
  if (!(replicationFactor >= 1 && replicationFactor <= nodes))
    throw refusal('replicationFactor', `1 to ${nodes}, the number of nodes`);
  if (!(latencyMs >= 0 && latencyMs <= 10_000)) throw refusal('latencyMs', '0 to 10,000');
  return { nodes, latencyMs, replicationFactor };
}

const refusal = (field: string, expected: string): KvError =>
  new KvError('BAD_REQUEST', { field, detail: `${field}: expected ${expected}` });

interface ClusterParts {
  readonly stopped: ReadonlyMap<string, string>;
  /** Of the administrator; undefined: there are no users. */
  readonly token: string | undefined;
  readonly world: ClientWorld;
}

export class SimulatedCluster {
  readonly nodes: readonly SimulatedNode[];
  readonly client: KvdClient;
  readonly #sim: SimCluster;
  readonly #driver: SimDriver;
  readonly #token: string | undefined;
  readonly #world: ClientWorld;

  constructor(
    sim: SimCluster,
    driver: SimDriver,
    client: KvdClient,
    { stopped, token, world }: ClusterParts,
  ) {
    this.#world = world;
    this.#sim = sim;
    this.#driver = driver;
    this.#token = token;
    this.client = client;
    this.nodes = sim.names.map((name) => new SimulatedNode(name, sim, driver, stopped));
  }

  /** Another client, of whoever has this token, that begins at this node. */
  connect(token: string, node = 'n1'): Promise<KvdClient> {
    const url = simUrl(this.#sim.names.indexOf(node));
    return connect([url], { hedgeAfterMs: 'off', token }, this.#world);
  }

  /** Repeats this run: `createCluster({ seed })` or KVD_SIM_SEED. */
  get seed(): number {
    return this.#sim.world.seed;
  }

  /** Virtual milliseconds since the cluster was made. */
  get nowMs(): number {
    return this.#sim.world.nowMs;
  }

  /** A hash of everything that happened: two runs of one seed have the same. */
  get trace(): string {
    return this.#sim.world.trace.text;
  }

  /** The last `count` lines that the nodes logged. */
  log(count = 100): readonly string[] {
    return this.#sim.log.last(count);
  }

  /** Lets `delayMs` of virtual time pass. */
  sleep(delayMs: number): Promise<void> {
    if (!(delayMs >= 0)) throw refusal('delayMs', '0 or more');
    return this.#driver.wait<void>((done) => {
      this.#sim.world.after(delayMs, undefined, 'test.sleep', () => done());
    });
  }

  /** Nothing gets from a node of one group to one of the other, either way, until `heal`. */
  partition(one: readonly string[], other: readonly string[]): void {
    for (const from of one)
      for (const to of other) {
        this.cut(from, to);
        this.cut(to, from);
      }
  }

  /** Nothing gets from `from` to `to` until `heal`; the other way it does. */
  cut(from: string, to: string): void {
    for (const name of [from, to]) this.#sim.condition(name);
    this.#sim.network.cut(from, to, 'drop');
  }

  /** What is sent from `from` to `to` on the connections of now comes after `delayMs`, all at once. */
  delay(from: string, to: string, delayMs: number): void {
    for (const name of [from, to]) this.#sim.condition(name);
    this.#sim.network.clog(from, to, delayMs);
  }

  /** So many of 1 messages are lost from now on, between nodes and to clients: 0 to 1. */
  lose(ratio: number): void {
    if (!(ratio >= 0 && ratio <= 1)) throw refusal('ratio', '0 to 1');
    this.#sim.network.faults.lossRatio = ratio;
  }

  /** Ends every fault of the network. */
  heal(): void {
    this.#sim.network.faults.lossRatio = 0;
    this.#sim.network.healAll();
  }

  /** Returns when every running node takes every running node for alive; throws after 60 s. */
  async settled(): Promise<void> {
    const running = this.nodes.filter(({ isRunning }) => isRunning).map(({ id }) => id);
    const deadlineMs = this.nowMs + readyTimeoutMs;
    for (const node of running)
      while (!(await this.#knows(node, running))) {
        if (this.nowMs > deadlineMs)
          throw new KvError('TIMEOUT', { node, detail: `node ${node} does not see the others` });
        await this.sleep(readyPollMs);
      }
  }

  /** Ends the simulation: calls that wait and later ones fail. */
  stop(): void {
    for (const { name } of this.nodes.map(({ id }) => ({ name: id })))
      this.#sim.crash(name, 'kill');
    this.#driver.fail(new KvError('DRAINING', { detail: 'this cluster was stopped' }));
  }

  async #knows(node: string, ids: readonly string[]): Promise<boolean> {
    const { exchange } = simWorld(this.#sim, this.#driver);
    const url = new URL(simUrl(this.#sim.names.indexOf(node)));
    const ask = async (path: string): Promise<Status | undefined> => {
      const request = { method: 'GET', path, isIdempotent: true, isWrite: false } as const;
      const token = this.#token;
      const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
      const outcome = await exchange(request, { url, timeoutMs: 1000, headers });
      if (!('answer' in outcome) || outcome.answer.status !== 200) return undefined;
      return JSON.parse(outcome.answer.body.toString()) as Status;
    };
    if ((await ask('/readyz')) === undefined) return false;
    const { nodes = [] } = (await ask('/api/v1/admin/cluster/status')) ?? {};
    const alive = nodes.filter(({ status }) => status === 'alive').map(({ node_id: id }) => id);
    return ids.every((id) => alive.includes(id));
  }
}

interface Status {
  readonly nodes?: readonly { readonly node_id: string; readonly status: string }[];
}

/** One node of the cluster, running or not. */
export class SimulatedNode {
  readonly id: string;
  readonly #sim: SimCluster;
  readonly #driver: SimDriver;
  readonly #stopped: ReadonlyMap<string, string>;

  constructor(
    id: string,
    sim: SimCluster,
    driver: SimDriver,
    stopped: ReadonlyMap<string, string>,
  ) {
    this.id = id;
    this.#sim = sim;
    this.#driver = driver;
    this.#stopped = stopped;
  }

  get isRunning(): boolean {
    return this.#sim.condition(this.id) === 'up';
  }

  /** Why the node last ended by itself; undefined where it never did. */
  get failure(): string | undefined {
    return this.#stopped.get(this.id);
  }

  /** As kill -9: the process is gone, what it gave to the machine stays. */
  kill(): void {
    this.#crash('kill');
  }

  /** The machine goes out: what was not synced may be gone. */
  losePower(): void {
    this.#crash('power-loss');
  }

  /** Starts it on what its disk holds; false where it did not come up: `failure` says why. */
  start(): Promise<boolean> {
    return this.#driver.wait<boolean>((done) => void this.#sim.start(this.id).then(done));
  }

  /** As SIGTERM: finishes its requests, says goodbye, flushes, ends. */
  async stop(): Promise<void> {
    const kernel = this.#sim.kernelOf(this.id);
    if (kernel === undefined) return;
    await this.#driver.wait<void>((done) => void kernel.drain().then(() => done()));
    this.#crash('kill');
  }

  /** It stands still for so long; the others go on. */
  pause(delayMs: number): void {
    this.#sim.pause(this.id, delayMs);
  }

  /** Its wall clock jumps, forwards or backwards; 0 ends all jumps. */
  moveClock(byMs: number): void {
    const { clock } = this.#sim.machineOf(this.id);
    if (byMs === 0) clock.correct();
    else clock.jump(byMs);
  }

  /** A sync of its disk takes so long from now on: mean, milliseconds; 1 is the usual. */
  slowDisk(syncMs: number): void {
    this.#sim.machineOf(this.id).storage.faults.syncMs = syncMs;
  }

  #crash(kind: CrashKind): void {
    if (this.#sim.condition(this.id) !== 'down') this.#sim.crash(this.id, kind);
  }
}
