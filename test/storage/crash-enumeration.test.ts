// A node that crashes at every single call of its environment, one after the other, while it opens a
// new directory, writes, flushes, rolls its manifest over and starts again (rule 2.5). Afterwards it
// starts, everything that was acknowledged is there, and nothing that no longer counts lies around.
//
// The actors are those of real nodes from replica and coordinator down; the machine is simulated.

import { expect } from 'chai';
import { recordKey, recordValue, userKey } from '../../actors/model/record.ts';
import { defaultTunables, type Tunables } from '../../actors/node/settings.ts';
import { Coordinator } from '../../actors/replication/protocol.ts';
import { decodeCurrent, manifestName } from '../../actors/storage/manifest.ts';
import { Store } from '../../actors/storage/protocol.ts';
import { tablePath } from '../../actors/storage/table-files.ts';
import { segmentHeaderSpace } from '../../actors/storage/wal-format.ts';
import { replayManifest } from '../../cli/commands/storage-files.ts';
import { refTo } from '../../runtime/actor.ts';
import { noBytes, utf8 } from '../../runtime/bytes.ts';
import type { ActorSpec } from '../../runtime/supervisor.ts';
import { type CrashKind, type NodeProgram, SimCluster } from '../../sim/cluster.ts';
import { kvdCodec, kvdProgram, sharedCodecs } from '../../sim/kvd-program.ts';
import { World } from '../../sim/world.ts';
import { quickNetwork } from '../sim/small-cluster.ts';

const node = 'n1';
const shard = 'shard-0';
const coordinator = refTo(Coordinator, node);
const store = refTo(Store, node);
/** Its snapshot and a few edits: every second flush begins a new manifest. */
const rollOverBytes = segmentHeaderSpace + 400;

const tunables: Tunables = {
  ...defaultTunables(),
  replicationFactor: 1,
  virtualNodes: 4,
  memtableBytes: 64 * 1024,
  inFlightBytes: 64 * 1024,
  arenasPerShard: 2,
  walSegmentBytes: segmentHeaderSpace + 2048,
  blockCacheBytes: 64 * 1024,
  rowCacheBytes: 64 * 1024,
  reserveBytes: 0,
  valueBytesMax: 1024,
};
const groupWrites = 5;
const keyCount = 20;
const timeoutMs = 2_000;
const wanted = new Set([
  'wal-writer',
  'memtable',
  'table-reader',
  'compactor',
  'store',
  'replica',
  'catalog',
  'coordinator',
]);

/** The program of real nodes without what has no files, and with a small manifest. */
function smallNode(): NodeProgram {
  const program = kvdProgram({ names: [node], shards: 1, durability: 'group', tunables });
  const changed = (spec: ActorSpec): ActorSpec =>
    spec.kind.protocol.name === 'store'
      ? { ...spec, options: { ...(spec.options as object), manifest: { rollOverBytes } } }
      : spec;
  return {
    ...program,
    actorsOf: async (name, host) => {
      // The caller plans the crash before the first call.
      await Promise.resolve();
      const specs = await program.actorsOf(name, host);
      return specs.filter(({ kind }) => wanted.has(kind.protocol.name)).map(changed);
    },
  };
}

/** Of one seed: the calls of every run are the same up to its crash. */
const newCluster = (seed: number): SimCluster =>
  new SimCluster({
    world: new World({ seed }),
    names: [node],
    program: smallNode(),
    codec: kvdCodec(),
    codecs: sharedCodecs(),
    network: quickNetwork,
  });

/** Where a crash happens: `call` counts the calls of that life, from 1. */
interface Crash {
  readonly kind: CrashKind;
  readonly life: 1 | 2;
  readonly call: number;
  /** Its first life ends by a kill between a write of the log and its sync. */
  readonly hasUnsynced?: boolean;
  /** Default 1. What a loss of power leaves of what was not synced is drawn from it. */
  readonly seed?: number;
}

interface Key {
  /** Values are numbers that grow: what was tried last, and what may not be lost any more. */
  tried: number;
  kept: number;
}

/** One run of the scenario with one crash. */
class Run {
  readonly cluster: SimCluster;
  readonly #crash: Crash;
  readonly #keys = new Map<string, Key>();
  #value = 0;
  /** Calls of each life in a run without a crash. */
  readonly calls: number[] = [];

  constructor(crash: Crash) {
    this.#crash = crash;
    this.cluster = newCluster(crash.seed ?? 1);
  }

  /** True: the crash came. Rejects where anything was wrong after it. */
  play(): Promise<boolean> {
    const { cluster } = this;
    return cluster.world.run(async () => {
      await this.#scenario();
      if (cluster.condition(node) === 'up') return false;
      await this.#startAndCheck();
      // What recovery wrote has to last as well.
      await this.#write(5);
      cluster.crash(node, this.#crash.kind);
      await this.#startAndCheck();
      return true;
    });
  }

  /** Highest numbers of files so far. */
  get seen(): { readonly segments: number; readonly manifests: number } {
    const { storage } = this.cluster.machineOf(node);
    const highest = (directory: string, pattern: RegExp): number =>
      Math.max(...storage.list(directory).map((name) => Number(pattern.exec(name)?.[1] ?? 0)));
    return {
      segments: highest(`${shard}/wal`, /^(\d+)[.]wal$/),
      manifests: highest(shard, /^MANIFEST-(\d+)$/),
    };
  }

  get acknowledged(): number {
    return [...this.#keys.values()].filter(({ kept }) => kept > 0).length;
  }

  async #scenario(): Promise<void> {
    if (!(await this.#live(1))) return;
    await this.#write(50);
    for (let round = 0; round < 3; round += 1) {
      await this.#flush();
      await this.#write(10);
    }
    // The log's mark.
    await this.cluster.world.sleep(150);
    if (this.#crash.hasUnsynced === true) await this.#dieBeforeSync();
    else if (!this.#endLife()) return;
    if (!(await this.#live(2))) return;
    await this.#write(5);
    this.#endLife();
  }

  async #live(life: 1 | 2): Promise<boolean> {
    const started = this.cluster.start(node);
    const { kind, call } = this.#crash;
    if (this.#crash.life === life) this.cluster.crashAtCall(node, call, kind);
    return started;
  }

  /** What the log holds then is in the page cache and not on the disk. */
  async #dieBeforeSync(): Promise<void> {
    const { cluster } = this;
    this.calls.push(0);
    // One call writes the record, the next one syncs it.
    cluster.crashAtCall(node, 2, 'kill');
    await this.#writeOne();
    expect(cluster.condition(node)).to.equal('down');
  }

  /** False: it had ended before. */
  #endLife(): boolean {
    const process = this.cluster.processOf(node);
    if (process === undefined) return false;
    this.calls.push(process.calls);
    this.cluster.cancelPlannedCrash(node);
    if (this.calls.length === 1) this.cluster.crash(node, this.#crash.kind);
    return true;
  }

  /** In groups, so that several share one sync; over few keys, so that there are old values. */
  async #write(count: number): Promise<void> {
    for (let done = 0; done < count; done += groupWrites) {
      const group = Array.from({ length: groupWrites }, () => this.#writeOne());
      await Promise.all(group);
      if (this.cluster.condition(node) !== 'up') return;
    }
  }

  async #writeOne(): Promise<void> {
    this.#value += 1;
    const value = this.#value;
    const name = `key-${value % keyCount}`;
    const key = this.#keys.get(name) ?? { tried: 0, kept: 0 };
    this.#keys.set(name, key);
    key.tried = value;
    const body = {
      namespace: 0,
      key: utf8.encode(name),
      value: utf8.encode(String(value)),
      valueType: 0,
      ttlMs: 0,
      afterHlc: 0,
      explain: false,
      level: 'ONE',
    };
    const answer = await this.cluster.ask(coordinator, 'write', body, timeoutMs);
    if (answer.kind === 'reply') key.kept = value;
    else if (this.cluster.condition(node) === 'up')
      throw new Error(`a write failed on a node that is up: ${JSON.stringify(answer)}`);
  }

  async #flush(): Promise<void> {
    if (this.cluster.condition(node) === 'up')
      await this.cluster.ask(store, 'flush', {}, timeoutMs);
  }

  async #startAndCheck(): Promise<void> {
    if (!(await this.cluster.start(node)))
      throw new Error(`it did not start again:\n${this.cluster.log.last(20).join('\n')}`);
    expect(this.#leftovers()).to.deep.equal([]);
    const found = new Map<string, number>();
    const request = { namespace: 0, prefix: noBytes, after: undefined, limit: 1000, level: 'ONE' };
    const scan = await this.cluster.ask(coordinator, 'scan', request, timeoutMs);
    if (scan.kind !== 'reply') throw new Error(`a scan ended with ${JSON.stringify(scan)}`);
    for (const record of scan.reply.records)
      found.set(utf8.decode(userKey(recordKey(record))), Number(utf8.decode(recordValue(record))));
    for (const name of found.keys()) expect(this.#keys.has(name), name).to.equal(true);
    for (const [name, key] of this.#keys) {
      const value = await this.#read(name);
      expect(found.get(name) ?? 0, `scan of ${name}`).to.equal(value);
      expect(value, `${name}: lost`).to.be.at.least(key.kept);
      expect(value, `${name}: never written`).to.be.at.most(key.tried);
      // What was read once may not go away.
      key.kept = value;
    }
  }

  async #read(name: string): Promise<number> {
    const request = { namespace: 0, key: utf8.encode(name), level: 'ONE', explain: false };
    const answer = await this.cluster.ask(coordinator, 'read', request, timeoutMs);
    if (answer.kind !== 'reply') throw new Error(`a read ended with ${JSON.stringify(answer)}`);
    const { record } = answer.reply;
    return record === undefined ? 0 : Number(utf8.decode(recordValue(record)));
  }

  /** Files that no start should leave behind. */
  #leftovers(): string[] {
    const { storage } = this.cluster.machineOf(node);
    const read = (path: string): Uint8Array => storage.find(path)?.copy() ?? noBytes;
    const number = decodeCurrent(read(`${shard}/CURRENT`)) ?? 0;
    const manifest = `${shard}/${manifestName(number)}`;
    const { state, verdict } = replayManifest(manifest, number, read(manifest));
    expect(verdict.kind, 'the manifest').to.equal('end');
    const segments = storage.list(`${shard}/wal`).filter((name) => name.endsWith('.wal'));
    const newest = segments[segments.length - 1] ?? '';
    const expected = new Set([
      ...['identity.json', 'whole', `${shard}/CURRENT`, manifest, `${shard}/clock-bound`],
      ...[...state.tables.keys()].map((table) => tablePath(shard, table)),
      `${shard}/wal/${newest}`,
      `${shard}/wal/NEWEST`,
    ]);
    const found = ['', shard, `${shard}/tables`, `${shard}/wal`].flatMap((directory) =>
      storage
        .list(directory)
        .map((name) => (directory === '' ? name : `${directory}/${name}`))
        .filter((path) => !storage.hasDirectory(path)),
    );
    const missing = [...state.tables.keys()]
      .map((table) => tablePath(shard, table))
      .filter((path) => !found.includes(path));
    return [...found.filter((path) => !expected.has(path)), ...missing];
  }
}

async function crashAtEachCall(crash: Omit<Crash, 'call'>, calls: number): Promise<void> {
  for (let call = 1; call <= calls; call += 1) {
    const isCrashed = await new Run({ ...crash, call }).play().catch((error: unknown) => {
      const [what = ''] = String(error).split('\n');
      throw new Error(`call ${call} of life ${crash.life}: ${what}`, { cause: error });
    });
    expect(isCrashed, `call ${call} of life ${crash.life} was not reached`).to.equal(true);
  }
}

const never = (kind: CrashKind): Crash => ({ kind, life: 1, call: Infinity });

describe('crash enumeration', function () {
  // Under load; alone it takes a quarter of it.
  this.timeout(60_000);

  it('crash enumeration: the scenario rotates the log and rolls the manifest over', async () => {
    const run = new Run(never('kill'));
    expect(await run.play()).to.equal(false);
    expect(run.calls.length).to.equal(2);
    expect(run.acknowledged).to.equal(keyCount);
    // Each of the two starts begins one of both.
    expect(run.seen.segments).to.be.at.least(4);
    expect(run.seen.manifests).to.be.at.least(3);
  });

  for (const kind of ['kill', 'power-loss'] as const)
    it(`crash enumeration: nothing acknowledged is lost, nothing useless stays (kind=${kind})`, async () => {
      const whole = new Run(never(kind));
      await whole.play();
      for (const life of [1, 2] as const)
        await crashAtEachCall({ kind, life }, whole.calls[life - 1] as number);
    });

  for (const seed of [1, 2, 3, 4])
    it(`crash enumeration: power is lost while a start recovers what was never synced (seed=${seed})`, async () => {
      const crash = { kind: 'power-loss', life: 2, hasUnsynced: true, seed } as const;
      const whole = new Run({ ...crash, call: Infinity });
      await whole.play();
      await crashAtEachCall(crash, whole.calls[1] as number);
    });
});
