// One process per data directory (rule FS-10), and per directory of backups. The lock is an abstract unix socket, named by the
// directory's device and inode, so that two paths to one directory meet in one name. The kernel
// frees it when its process ends, however it ends: a crash leaves no stale lock behind. The file
// kvd.pid beside the data only tells people who holds it.
//
// Abstract sockets exist on Linux only; elsewhere the pid file is the lock, and a pid that is no
// longer alive frees it. Both end at the borders of a container: two containers must not mount
// one data directory.

import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { KvError } from '../errors.ts';

export interface DirectoryLock {
  /** Lets the next process have the directory. */
  readonly release: () => Promise<void>;
}

const pidFileName = 'kvd.pid';

/**
 * Takes the directory for this process; it is made where it does not exist. `what` it is called.
 * Error: CONFLICT, with a sentence that names the process which holds it.
 */
export async function lockDirectory(root: string, what = 'data directory'): Promise<DirectoryLock> {
  fs.mkdirSync(root, { recursive: true, mode: 0o700 });
  const pidFile = path.join(root, pidFileName);
  const server = process.platform === 'linux' ? await bind(root, pidFile, what) : undefined;
  if (server === undefined && isAlive(readPid(pidFile))) throw taken(root, pidFile, what);
  fs.writeFileSync(pidFile, `${process.pid}\n`, { mode: 0o600 });
  return {
    release: () =>
      new Promise((resolve) => {
        fs.rmSync(pidFile, { force: true });
        if (server === undefined) resolve();
        else server.close(() => resolve());
      }),
  };
}

/** Listening is the lock: nobody has business to connect. */
function bind(root: string, pidFile: string, what: string): Promise<net.Server> {
  const { dev, ino } = fs.statSync(root, { bigint: true });
  const server = net.createServer((socket) => socket.destroy());
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(error.code === 'EADDRINUSE' ? taken(root, pidFile, what) : error);
    });
    server.listen({ path: `\0kvd-data-${dev}-${ino}` }, () => {
      server.unref();
      resolve(server);
    });
  });
}

function taken(root: string, pidFile: string, what: string): KvError {
  const pid = readPid(pidFile);
  const holder = pid === undefined ? 'another process' : `process ${pid}`;
  const detail = `the ${what} ${root} is in use by ${holder}; stop it or choose another one`;
  return new KvError('CONFLICT', { detail });
}

function readPid(pidFile: string): number | undefined {
  try {
    const pid = Number.parseInt(fs.readFileSync(pidFile, 'utf8'), 10);
    return Number.isSafeInteger(pid) ? pid : undefined;
  } catch {
    return undefined;
  }
}

function isAlive(pid: number | undefined): boolean {
  if (pid === undefined || pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
