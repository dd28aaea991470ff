// Makes the faults of a schedule happen (rule 2.4). Each event heals by itself after a while; at the
// end everything is healed. What the numbers of an event mean is said where it is carried out.
//
// Nodes that are `gone` stay so: they are not started again until everything is healed (rule 2.6).

import type { Prng } from '../runtime/prng.ts';
import type { CrashKind, SimCluster } from './cluster.ts';
import type { Core, FaultEvent, Schedule } from './schedule.ts';
import type { DamageFile } from './sim-disk.ts';
import type { CutKind } from './sim-network.ts';

/** Sectors that rot strikes at once: most are never read. */
const rottenSectors = 8;

export class Nemesis {
  readonly #cluster: SimCluster;
  readonly #schedule: Schedule;
  readonly #random: Prng;
  readonly #gone = new Set<string>();
  #isActive = false;

  constructor(cluster: SimCluster, schedule: Schedule) {
    this.#cluster = cluster;
    this.#schedule = schedule;
    this.#random = cluster.world.random.fork('nemesis');
  }

  /** Pause before a node that went down by itself is started again; undefined: it is not. */
  restartMs(node: string): number | undefined {
    if (this.#gone.has(node)) return undefined;
    return this.#random.logUniform(10, this.#isActive ? 10_000 : 500);
  }

  /** Faults begin; resolves after `durationMs`, with the faults still in place. */
  async rage(durationMs: number): Promise<void> {
    const { world } = this.#cluster;
    const startMs = world.nowMs;
    this.#isActive = true;
    this.#startSteadyFaults();
    for (const event of this.#schedule.events) {
      if (event.atMs >= durationMs) break;
      await world.sleep(Math.max(0, startMs + event.atMs - world.nowMs));
      this.#strike(event);
    }
    await world.sleep(Math.max(0, startMs + durationMs - world.nowMs));
  }

  /** Ends every fault among the nodes that stay, and takes the others away (rule 2.6). */
  async keepCore({ gone, how }: Core): Promise<void> {
    this.#endFaults();
    for (const node of gone) {
      this.#gone.add(node);
      if (how === 'down') this.#cluster.crash(node, 'power-loss');
      else this.#isolate(node);
    }
    const core = this.#cluster.names.filter((name) => !gone.includes(name));
    await this.#startUntilUp(core);
  }

  /** Ends every fault and starts every node but those in `without`. */
  async healAll(without: ReadonlySet<string>): Promise<void> {
    this.#endFaults();
    this.#gone.clear();
    for (const node of without) this.#gone.add(node);
    await this.#startUntilUp(this.#cluster.names.filter((name) => !without.has(name)));
  }

  async #startUntilUp(names: readonly string[]): Promise<void> {
    for (;;) {
      const started = await Promise.all(names.map((name) => this.#cluster.start(name)));
      if (started.every(Boolean)) return;
      await this.#cluster.world.sleep(100);
    }
  }

  #endFaults(): void {
    const { network, names, probes } = this.#cluster;
    this.#isActive = false;
    probes.onReach = undefined;
    network.healAll();
    network.faults.lossRatio = 0;
    network.faults.replayRatio = 0;
    network.faults.corruptRatio = 0;
    for (const name of names) {
      const { storage, clock } = this.#cluster.machineOf(name);
      storage.endFaults();
      clock.correct();
      this.#cluster.cancelPlannedCrash(name);
    }
  }

  #isolate(node: string): void {
    for (const other of this.#cluster.names) {
      if (other === node) continue;
      this.#cluster.network.cut(node, other, 'drop');
      this.#cluster.network.cut(other, node, 'drop');
    }
  }

  #startSteadyFaults(): void {
    const { network, names } = this.#cluster;
    const { lossRatio, replayRatio, corruptRatio, diskErrors } = this.#schedule.steady;
    Object.assign(network.faults, { lossRatio, replayRatio, corruptRatio });
    for (const name of names)
      this.#cluster.machineOf(name).storage.faults.errorRatio = diskErrors[name] ?? 0;
  }

  #strike(event: FaultEvent): void {
    const { log, names } = this.#cluster;
    const { kind, node, durationMs, amount } = event;
    // A schedule may name a node that a smaller run does not have.
    if (!names.includes(node)) return;
    log.add(node, 'sim', `fault.${kind}`, undefined);
    switch (kind) {
      case 'kill':
        return this.#crash(event, 'kill');
      case 'power-loss':
        // `amount`: calls of the environment until then; 0: now.
        if (amount === 0) return this.#crash(event, 'power-loss');
        return this.#cluster.crashAtCall(node, amount, 'power-loss');
      case 'blackout':
        return this.#blackout(event);
      case 'crash-at-call':
        return this.#cluster.crashAtCall(node, amount, crashKind(event));
      case 'crash-at-label':
        return this.#crashAtLabel(event);
      case 'pause':
        return this.#cluster.pause(node, durationMs);
      case 'cut':
        return this.#cut(event, durationMs);
      case 'flap':
        return this.#flap(event, this.#cluster.world.nowMs + durationMs);
      case 'clog':
        for (const [from, to] of event.pairs ?? [])
          this.#cluster.network.clog(from, to, durationMs);
        return undefined;
      case 'reset':
        for (const [a, b] of event.pairs ?? []) this.#cluster.network.reset(a, b);
        return undefined;
      default:
        return this.#strikeMachine(event);
    }
  }

  #strikeMachine(event: FaultEvent): void {
    const { kind, node, durationMs, amount } = event;
    const { storage, clock } = this.#cluster.machineOf(node);
    const { faults } = storage;
    switch (kind) {
      case 'clock-jump':
        // `amount`: milliseconds, either way.
        return clock.jump(amount);
      case 'clock-strobe':
        return this.#strobe(event, this.#cluster.world.nowMs + durationMs, 1);
      case 'slow-disk':
        // `amount`: mean latency of a sync, milliseconds.
        faults.syncMs = amount;
        return this.#later(durationMs, () => (faults.syncMs = 1));
      case 'stuck-disk':
        faults.stuckMs = durationMs;
        return undefined;
      case 'full-disk':
        // `amount`: bytes that are left.
        faults.capacityBytes = storage.usedBytes + amount;
        return this.#later(durationMs, () => (faults.capacityBytes = Infinity));
      default:
        return this.#damage(event);
    }
  }

  #damage(event: FaultEvent): void {
    const { kind, node, durationMs, amount, how } = event;
    const { storage } = this.#cluster.machineOf(node);
    const { faults } = storage;
    if (kind === 'rot') {
      storage.rot(how as DamageFile, amount, rottenSectors);
      // What a node starts from is read at a start only.
      if (how === 'log') this.#crash(event, 'kill');
    }
    if (kind === 'lost-write' || kind === 'misdirected-write') faults.nextSync = kind;
    else if (kind === 'lying-sync') {
      faults.isLying = true;
      this.#later(durationMs, () => (faults.isLying = false));
    } else if (kind === 'read-error') {
      // `amount`: chance that a block cannot be read.
      faults.readErrorRatio = amount;
      this.#later(durationMs, () => (faults.readErrorRatio = 0));
    } else if (kind === 'wiped-disk') {
      this.#crash(event, 'power-loss');
      if (this.#cluster.condition(node) === 'down') storage.wipe();
    }
  }

  #later(delayMs: number, end: () => void): void {
    this.#cluster.world.after(delayMs, undefined, 'fault.end', end);
  }

  #crash({ node, durationMs }: FaultEvent, kind: CrashKind): void {
    if (this.#cluster.condition(node) === 'down') return;
    this.#cluster.crash(node, kind);
    this.#cluster.world.after(durationMs, undefined, 'restart', () => {
      if (!this.#gone.has(node)) void this.#cluster.start(node);
    });
  }

  /** Syncs take `amount` milliseconds for a moment, so that much is under way; then all is dark. */
  #blackout(event: FaultEvent): void {
    const { names } = this.#cluster;
    const { amount } = event;
    const disks = names.map((name) => this.#cluster.machineOf(name).storage.faults);
    if (amount > 0) for (const faults of disks) faults.syncMs = amount;
    this.#later(amount * 2, () => {
      if (amount > 0) for (const faults of disks) faults.syncMs = 1;
      if (!this.#isActive) return;
      for (const node of names) this.#crash({ ...event, node }, 'power-loss');
    });
  }

  /** A crash so many calls after some node has reached a label, which it did `amount` times before. */
  #crashAtLabel({ how, amount, calls = 1, crash = 'power-loss' }: FaultEvent): void {
    let left = amount;
    const { probes } = this.#cluster;
    probes.onReach = (node, label) => {
      if (label !== how) return;
      left -= 1;
      if (left >= 0) return;
      probes.onReach = undefined;
      this.#cluster.crashAtCall(node, calls, crash);
    };
  }

  /** Cuts the directions of the event for a while. */
  #cut(event: FaultEvent, delayMs: number): void {
    const { network, world, names } = this.#cluster;
    const pairs = (event.pairs ?? []).filter((pair) => pair.every((name) => names.includes(name)));
    for (const [from, to] of pairs) network.cut(from, to, event.how as CutKind);
    world.after(delayMs, undefined, 'heal', () => {
      // Nodes that are gone stay cut off.
      for (const [from, to] of pairs)
        if (!this.#gone.has(from) && !this.#gone.has(to)) network.heal(from, to);
    });
  }

  /** Cut and healed by turns, `periodMs` each, until `endMs`. */
  #flap(event: FaultEvent, endMs: number): void {
    const { world } = this.#cluster;
    const periodMs = Math.max(1, event.periodMs ?? 1);
    if (world.nowMs >= endMs || !this.#isActive) return;
    this.#cut(event, periodMs);
    world.after(periodMs * 2, undefined, 'flap', () => this.#flap(event, endMs));
  }

  /** The clock goes forth and back by `amount` every `periodMs`. */
  #strobe(event: FaultEvent, endMs: number, direction: 1 | -1): void {
    const { world } = this.#cluster;
    if (world.nowMs >= endMs && direction === 1) return;
    if (!this.#isActive) return;
    this.#cluster.clockOf(event.node).jump(direction * event.amount);
    const periodMs = Math.max(1, event.periodMs ?? 1);
    const next = direction === 1 ? -1 : 1;
    world.after(periodMs, undefined, 'strobe', () => this.#strobe(event, endMs, next));
  }
}

const crashKind = ({ how }: FaultEvent): CrashKind => (how === 'kill' ? 'kill' : 'power-loss');
