// What the simulated nodes run: kvd itself, from the same plan, identity and settings as a real
// node. Also the wire format and LZ4, the two things that are the real ones here too.

import { openIdentity } from '../actors/node/identity.ts';
import { arenaCount, type Member, type NodeSettings, planNode } from '../actors/node/plan.ts';
import { arenaBytes } from '../actors/node/sizes.ts';
import { allProtocols } from '../actors/node/protocols.ts';
import type { Durability, Tunables } from '../actors/node/settings.ts';
import { ByteWriter } from '../runtime/bytes.ts';
import { createCodecs } from '../runtime/block-codecs.ts';
import type { BlockCodecs } from '../runtime/environment.ts';
import { KvError } from '../runtime/errors.ts';
import { loadCodecModules } from '../runtime/host/codec-modules.ts';
import { placementOf } from '../runtime/placement.ts';
import type { Protocol } from '../runtime/protocol.ts';
import { Codec } from '../transport/codec.ts';
import { FrameReader, FrameWriter } from '../transport/frame.ts';
import type { NodeProgram, SimCodec } from './cluster.ts';
import type { CompactionStrategy, Compression } from '../actors/model/table-choices.ts';

const clusterName = 'sim';

export interface KvdOptions {
  readonly names: readonly string[];
  /** Of each node, or by node. */
  readonly shards: number | ReadonlyMap<string, number>;
  readonly durability: Durability;
  readonly compaction?: CompactionStrategy;
  /** Default `auto`. */
  readonly compression?: Compression;
  /** Log segments go to the machine's archive. Default false. */
  readonly hasWalArchive?: boolean;
  readonly tunables: Tunables;
  /** Users have to say who they are. Default: nobody has to. */
  readonly access?: NodeSettings['access'];
}

export function kvdProgram(options: KvdOptions): NodeProgram {
  const {
    names,
    shards,
    durability,
    compaction = 'leveled',
    compression = 'auto',
    tunables,
  } = options;
  const shardsOf = (node: string): number =>
    typeof shards === 'number' ? shards : (shards.get(node) ?? 1);
  const shardsMax = Math.max(...names.map(shardsOf));
  const members: Member[] = names.map((node, i) => ({
    node,
    host: '127.0.0.1',
    internodePort: 7002 + 10 * i,
  }));
  const { replicationFactor, virtualNodes } = tunables;
  return {
    protocols: allProtocols,
    arenas: Array.from({ length: arenaCount(tunables, shardsMax) }, () => arenaBytes(tunables)),
    actorsOf: async (node, host) => {
      const identity = {
        clusterName,
        node,
        members: [...names].sort(),
        replicationFactor,
        virtualNodes,
        shards: shardsOf(node),
      };
      const unixSeconds = host.clock.wallMicros() / 1e6;
      const { incarnation, birth, isWhole } = await openIdentity(
        host.capabilities.disk,
        identity,
        unixSeconds,
      );
      const at = names.indexOf(node);
      const planned = planNode({
        node,
        clusterName,
        incarnation,
        birth,
        isWhole,
        members,
        placement: placementOf('single', shardsOf(node)),
        host: '127.0.0.1',
        httpPort: 7000 + 10 * at,
        internodePort: 7002 + 10 * at,
        durability,
        compaction,
        compression,
        hasWalArchive: options.hasWalArchive,
        tunables,
        access: options.access,
        samples: () => host.metrics.samples(),
      });
      return planned.map(({ spec }) => spec);
    },
  };
}

/** The wire format of real nodes, for the messages of kvd. */
export const kvdCodec = (): SimCodec => codecOf(allProtocols);

/** The same for any protocols. */
export function codecOf(protocols: readonly Protocol[]): SimCodec {
  const codec = new Codec(protocols);
  const writer = new ByteWriter(4096);
  return {
    encode: (envelope, nowMs) => {
      writer.reset();
      codec.encodeEnvelope(writer, envelope, nowMs);
      return writer.view();
    },
    decode: (bytes, nowMs, via, { from, to }) => codec.decodeEnvelope(bytes, nowMs, via, from, to),
    transcode: (descriptor, isReply, body) => codec.transcode(descriptor, isReply, body),
    noticesFlip,
  };
}

/** Puts the bytes into a frame of the real format, flips a bit, and reads it as a peer would. */
export function noticesFlip(bytes: Uint8Array, place: number): boolean {
  const frames = new FrameWriter(sharedCodecs().lz4);
  frames.add(bytes);
  const frame = frames.take();
  const bit = Math.floor(place * frame.length * 8);
  frame[bit >>> 3] = (frame[bit >>> 3] ?? 0) ^ (1 << (bit & 7));
  let isTaken = false;
  const take = (): void => {
    isTaken = true;
  };
  const reader = new FrameReader(sharedCodecs().lz4, { envelope: take, hello: take, probe: take });
  reader.trust();
  try {
    reader.feed(frame);
  } catch (error) {
    if (error instanceof KvError) return true;
    throw error;
  }
  return !isTaken;
}

let codecs: BlockCodecs | undefined;

/** The same for all worlds of this process: they keep nothing between two calls. */
export function sharedCodecs(): BlockCodecs {
  codecs ??= createCodecs(loadCodecModules());
  return codecs;
}
