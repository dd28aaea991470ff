// CLUSTER, as a single server answers it that serves every slot: kvd's nodes forward for their
// clients, so tools that ask need no other node. Slots are those of Redis, and place nothing here.
//
// References: redis.io "Redis cluster specification" (slots, CRC16 of XMODEM), commands CLUSTER *.

import { utf8 } from '../../runtime/bytes.ts';
import { fingerprint32Pure } from '../../runtime/fingerprint32.ts';
import { hashTagOf } from '../model/hash-tag.ts';
import { mapReply, verbatim } from './resp-replies.ts';
import type { RespHandlers } from './resp-services.ts';
import { withSubcommands } from './resp-subcommands.ts';

const slots = 16_384;
const polynomial = 0x1021;

function crc16(bytes: Uint8Array): number {
  let crc = 0;
  for (const byte of bytes) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit += 1)
      crc = ((crc & 0x8000) === 0 ? crc << 1 : (crc << 1) ^ polynomial) & 0xffff;
  }
  return crc;
}

/** The slot of a key as Redis counts it: of its hash tag, where it has one. */
export const slotOf = (key: Uint8Array): number => crc16(hashTagOf(key) ?? key) % slots;

/** 40 hexadecimal digits, always the same of a node. */
export const clusterIdOf = (node: string): string =>
  Array.from({ length: 5 }, (_, i) =>
    fingerprint32Pure(utf8.encode(`${i}:${node}`))
      .toString(16)
      .padStart(8, '0'),
  ).join('');

/** Of `address:port`, where the address may be one of IPv6. */
function endpointOf(local: string): readonly [address: string, port: number] {
  const colon = local.lastIndexOf(':');
  return [local.slice(0, colon), Number(local.slice(colon + 1))];
}

const facts: readonly (readonly [string, string | number])[] = [
  ['cluster_enabled', 0],
  ['cluster_state', 'ok'],
  ['cluster_slots_assigned', slots],
  ['cluster_slots_ok', slots],
  ['cluster_slots_pfail', 0],
  ['cluster_slots_fail', 0],
  ['cluster_known_nodes', 1],
  ['cluster_size', 1],
  ['cluster_current_epoch', 1],
  ['cluster_my_epoch', 1],
];

const cluster = withSubcommands('cluster', {
  info: [2, 2, () => verbatim(facts.map(([name, value]) => `${name}:${value}\r\n`).join(''))],
  myid: [2, 2, (_call, { ctx }) => clusterIdOf(ctx.node)],
  keyslot: [3, 3, (call) => slotOf(call.arg(2))],
  nodes: [
    2,
    2,
    ({ connection }, { ctx }) =>
      verbatim(
        `${clusterIdOf(ctx.node)} ${connection.local}@0 myself,master - 0 0 1 connected 0-${slots - 1}\n`,
      ),
  ],
  slots: [
    2,
    2,
    ({ connection }, { ctx }) => [
      [0, slots - 1, [...endpointOf(connection.local), clusterIdOf(ctx.node), []]],
    ],
  ],
  shards: [
    2,
    2,
    ({ connection }, { ctx }) => {
      const [address, port] = endpointOf(connection.local);
      const node = mapReply([
        ...['id', clusterIdOf(ctx.node), 'port', port, 'ip', address, 'endpoint', address],
        ...['role', 'master', 'replication-offset', 0, 'health', 'online'],
      ]);
      return [mapReply(['slots', [0, slots - 1], 'nodes', [node]])];
    },
  ],
  help: [2, 2, () => ['CLUSTER INFO, NODES, SLOTS, SHARDS, MYID', 'CLUSTER KEYSLOT key']],
});

export const clusterHandlers: RespHandlers = { cluster };
