// What a workload is: clients that use the cluster and write down what they did and saw. A new one
// is a file in sim/workloads/ and a row in sim/registry.ts; its checkers are rows there too.
//
// A run is made again from its seed and the list of operations that it keeps (rule RP-5), so every
// operation has a name: workload, client, turn. Invariant: whether an operation is kept changes no
// random draw of the others; a client draws first and asks `isKept` then.

import type { Prng } from '../runtime/prng.ts';
import type { ReplicaCopy } from './checkers/settled.ts';
import type { SimCluster } from './cluster.ts';
import type { History, Operation, Phase } from './history.ts';

/** What a workload is given; one per run. */
export interface WorkloadContext {
  readonly cluster: SimCluster;
  readonly history: History;
  /** Its own stream of random numbers. */
  readonly random: Prng;
  /** Copies of each key. */
  readonly replicas: number;
  /** The replicas of a storage key. */
  readonly replicasOf: (key: Uint8Array) => readonly string[];
  /** The shard of a storage key at a node, replica or not. */
  readonly shardAt: (node: string, key: Uint8Array) => number;
  /** Factor on the pauses of its clients, at least 1. */
  readonly pace: number;
  /** False: a shrunk run leaves this operation out. A client counts its turns from 0. */
  readonly isKept: (client: number, turn: number) => boolean;
}

/** The end of a run: nothing is wrong any more, so what is asked must work. */
export interface Settlement {
  /** Nodes that can be asked; without those whose data the faults have destroyed. */
  readonly nodes: readonly string[];
  /** False: the data of some node is gone or damaged, so nothing works at `ALL`. */
  readonly isWhole: boolean;
  /** Tries at one node after another until it works; LivenessError where it does not in time. */
  readonly untilOk: (
    what: string,
    attempt: (node: string) => Promise<Pick<Operation, 'outcome' | 'code'>>,
  ) => Promise<void>;
  /** All items, several at a time. */
  readonly forEach: <T>(items: readonly T[], work: (item: T) => Promise<void>) => Promise<void>;
  /** Notes what every replica of a key holds, for the checkers. */
  readonly dump: (key: string, namespace?: number) => Promise<void>;
}

export interface Workload {
  /** Operations that start from now on belong to this phase. */
  enter(phase: Phase): void;
  /** Starts all clients; resolves when `stop` was called and the last one has ended. */
  run(): Promise<void>;
  stop(): void;
  /** Reads at the end, for the checkers; called in phase `final`. */
  settle?(settlement: Settlement): Promise<void>;
}

/** A workload with its options drawn. */
export interface PreparedWorkload {
  readonly name: string;
  /** Its options in a few words, for the report of a failing seed. */
  readonly summary: string;
  /** What its clients ask for at most: operations per virtual second. */
  readonly perSecond: number;
  readonly create: (context: WorkloadContext) => Workload;
}

/** A workload as a seed runs it. */
export interface PacedWorkload extends PreparedWorkload {
  /** Factor on the pauses of its clients, at least 1. */
  readonly pace: number;
}

/** What the options of a workload may depend on. */
export interface SeedFacts {
  readonly nodes: number;
  readonly replicationFactor: number;
}

export interface WorkloadKind {
  readonly name: string;
  /** Undefined: this seed does without. `random` is forked by the name of the workload. */
  readonly prepare: (random: Prng, facts: SeedFacts) => PreparedWorkload | undefined;
}

export type CopiesByKey = ReadonlyMap<string, readonly ReplicaCopy[]>;
