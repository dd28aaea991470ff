// Which states of decisions may be forgotten (PX-15), as a function of a session. For each set of
// replicas whose first member this node is, while all of its members answer:
//
//   1  how far has everyone settled?  -> everyone may forget what is older than the least of it
//   2  everyone refuses ballots older than a day from now on (acceptors: `raiseFloors`, durable)
//   3  every pass of Paxos repair that begins after that, and finds nothing open below the floor,
//      has settled up to it: the answer to 1, the next time
//
// Everything that could still be decided below such a floor has been by then, and a majority has
// applied it; so it takes nobody's memory of the decision to find its result.

import { type Ref, refTo, type Session } from '../../runtime/actor.ts';
import { KvError } from '../../runtime/errors.ts';
import type { BodyOf, ReplyOf } from '../../runtime/protocol.ts';
import type { ReplicaSets } from '../model/replica-sets.ts';
import { boundsWhere } from './ballot-floors.ts';
import { Acceptor, PaxosRepairer, type SetBounds } from './protocol.ts';

export interface ForgetParts {
  readonly session: Session;
  readonly node: string;
  readonly sets: ReplicaSets;
  /** Shards of each member that is alive, as far as this node knows. */
  readonly shardsOf: ReadonlyMap<string, number>;
  /** A state is kept for so long, milliseconds. */
  readonly keptMs: number;
}

const askTimeoutMs = 10_000;

/** What a member that does not answer takes part in is left for the next time. */
export async function moveFloors(parts: ForgetParts): Promise<void> {
  const { sets, shardsOf, node } = parts;
  const led = sets.ofNode(node).filter((set) => {
    const members = sets.sets[set]?.members ?? [];
    return members[0] === node && members.every((member) => shardsOf.has(member));
  });
  const members = [...new Set(led.flatMap((set) => sets.sets[set]?.members ?? []))];
  if (members.length === 0) return;
  const surveys = await surveyAll(parts, led, members);
  const whole = led.filter((set) => sets.sets[set]?.members.every((member) => surveys.has(member)));
  const settled = whole.map((set) => leastSettled(parts, set, surveys));
  const forget = boundsWhere({ sets: whole, hlcs: settled }, (_, hlc) => hlc > 0);
  await tellMembers(parts, forget, (member, shard, bounds) =>
    parts.session.ask(refTo(PaxosRepairer, member, shard), 'forget', bounds, askTimeoutMs),
  );
  // The slowest clock decides: nothing that anybody takes for young is refused.
  const walls = [...surveys.values()].flat().map(({ wallMicros }) => wallMicros);
  const floor = Math.floor(Math.min(...walls)) - parts.keptMs * 1000;
  const floors = { sets: whole, hlcs: whole.map(() => floor) };
  if (floor > 0)
    await tellMembers(parts, floors, (member, shard, bounds) =>
      parts.session.ask(refTo(Acceptor, member, shard), 'raiseFloors', bounds, askTimeoutMs),
    );
}

type Survey = ReplyOf<PaxosRepairer['settled']>;
type Surveys = ReadonlyMap<string, readonly Survey[]>;

/**
 * Of the members of which every shard answers. How many there are is known by gossip, and right after
 * a start it is not: so they say it themselves.
 */
async function surveyAll(
  { session, shardsOf, sets }: ForgetParts,
  led: readonly number[],
  members: readonly string[],
): Promise<Surveys> {
  const surveys = new Map<string, readonly Survey[]>();
  await Promise.all(
    members.map(async (member) => {
      const own = led.filter((set) => sets.sets[set]?.members.includes(member));
      const asked = shardRefs(member, shardsOf).map((to) =>
        session.ask(to, 'settled', { sets: own }, askTimeoutMs),
      );
      try {
        const told = await Promise.all(asked);
        if (told.every(({ shards }) => shards === told.length)) surveys.set(member, told);
      } catch (error) {
        if (!(error instanceof KvError)) throw error;
      }
    }),
  );
  return surveys;
}

const shardRefs = (
  member: string,
  shardsOf: ReadonlyMap<string, number>,
): readonly Ref<PaxosRepairer>[] =>
  Array.from({ length: shardsOf.get(member) ?? 0 }, (_, shard) =>
    refTo(PaxosRepairer, member, shard),
  );

function leastSettled({ sets }: ForgetParts, set: number, surveys: Surveys): number {
  const members = sets.sets[set]?.members ?? [];
  const parts = members.flatMap((member) => surveys.get(member) ?? []);
  return Math.min(...parts.map(({ sets: told, hlcs }) => hlcs[told.indexOf(set)] ?? 0));
}

/** Every shard of every member hears of its own sets; who does not, does the next time. */
async function tellMembers(
  { sets, shardsOf }: ForgetParts,
  bounds: SetBounds,
  ask: (member: string, shard: number, bounds: BodyOf<PaxosRepairer['forget']>) => Promise<unknown>,
): Promise<void> {
  const members = new Set(bounds.sets.flatMap((set) => sets.sets[set]?.members ?? []));
  await Promise.all(
    [...members].flatMap((member) => {
      const own = boundsWhere(bounds, (set) => sets.sets[set]?.members.includes(member) === true);
      return Array.from({ length: shardsOf.get(member) ?? 0 }, (_, shard) =>
        ask(member, shard, own).catch((error: unknown) => {
          if (!(error instanceof KvError)) throw error;
        }),
      );
    }),
  );
}
