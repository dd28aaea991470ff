// One run of kvd or kvctl as a program of its own, to its end.

import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export const kvctlPath = fileURLToPath(new URL('../../cli/kvctl.js', import.meta.url));
export const kvdPath = fileURLToPath(new URL('../../cli/kvd.js', import.meta.url));

export interface Ran {
  readonly code: number;
  readonly stdout: Buffer;
  readonly stderr: string;
}

export interface RunOptions {
  readonly stdin?: Buffer | undefined;
  /** Gets the standard output so far, whenever there is more of it. */
  readonly onOutput?: ((text: string) => void) | undefined;
}

export function runProgram(
  path: string,
  args: readonly string[],
  { stdin, onOutput }: RunOptions = {},
): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [path, ...args]);
    const stdout: Buffer[] = [];
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => {
      stdout.push(chunk);
      onOutput?.(Buffer.concat(stdout).toString());
    });
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    child.once('error', reject);
    // A command that refuses early does not read on.
    child.stdin.on('error', () => undefined);
    child.stdin.end(stdin);
    child.once('close', (code) =>
      resolve({ code: code ?? 1, stdout: Buffer.concat(stdout), stderr }),
    );
  });
}
