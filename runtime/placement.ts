// Which thread runs which group of actors: data, with three profiles. The same table on every
// thread, so a router finds any actor of its node without asking.
//
//   single   everything on the main thread (tests, debugging)
//   small    main thread: control; then the shard threads, one by default; last: background
//   wide     the same with shards = cores - 2
//
// A shard's gateway, coordinator and store share one thread: a hop between threads costs 50 to
// 90 us when the other one sleeps (docs/performance.md).

export type Profile = 'single' | 'small' | 'wide';
export type ThreadGroup = 'control' | 'shard' | 'background';

export interface Placement {
  readonly profile: Profile;
  /** Shards of the node, at least 1. */
  readonly shards: number;
  readonly threads: number;
  readonly threadOf: (group: ThreadGroup, shard: number) => number;
  /** Names a thread in logs and profiles. */
  readonly nameOf: (thread: number) => string;
}

export function defaultShards(profile: Profile, cores: number): number {
  return profile === 'wide' ? Math.max(1, cores - 2) : 1;
}

export function defaultProfile(cores: number): Profile {
  return cores > 3 ? 'wide' : 'small';
}

export function placementOf(profile: Profile, shards: number): Placement {
  if (profile === 'single')
    return { profile, shards, threads: 1, threadOf: () => 0, nameOf: () => 'main' };
  const background = shards + 1;
  return {
    profile,
    shards,
    threads: shards + 2,
    threadOf: (group, shard) =>
      group === 'control' ? 0 : group === 'shard' ? 1 + shard : background,
    nameOf: (thread) =>
      thread === 0 ? 'control' : thread === background ? 'background' : `shard-${thread - 1}`,
  };
}
