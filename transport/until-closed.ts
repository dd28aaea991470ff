// What a request of an HTTP connection holds, until its response closes or its connection does,
// whichever is first: a response that waits behind others in a pipeline hears of no end when the
// connection ends.

import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** What each connection gives back when it ends. */
const held = new WeakMap<Socket, Set<() => void>>();

/** Calls `release` once. */
export function untilClosed(
  socket: Socket,
  response: ServerResponse | undefined,
  release: () => void,
): void {
  const releases = heldBy(socket);
  const once = (): void => {
    if (releases.delete(once)) release();
  };
  releases.add(once);
  response?.once('close', once);
}

function heldBy(socket: Socket): Set<() => void> {
  const known = held.get(socket);
  if (known !== undefined) return known;
  const releases = new Set<() => void>();
  held.set(socket, releases);
  socket.once('close', () => {
    for (const release of releases) release();
  });
  return releases;
}
