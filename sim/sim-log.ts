// What the nodes of a world logged, by virtual time. Only the last lines are kept: they are
// printed when a run fails.

import type { Log, LogFields } from '../runtime/environment.ts';
import type { World } from './world.ts';

const linesMax = 4_000;

interface Line {
  readonly timeMs: number;
  readonly node: string;
  readonly level: string;
  readonly event: string;
  readonly fields: LogFields | undefined;
}

export class SimLog {
  readonly #world: World;
  #lines: Line[] = [];

  constructor(world: World) {
    this.#world = world;
  }

  add(node: string, level: string, event: string, fields: LogFields | undefined): void {
    this.#lines.push({ timeMs: this.#world.nowMs, node, level, event, fields });
    if (this.#lines.length >= linesMax * 2) this.#lines = this.#lines.slice(linesMax);
  }

  /** A log for one node; `isOpen` false: its process has ended and writes nothing any more. */
  logOf(node: string, isOpen: () => boolean): Log {
    const at =
      (level: string) =>
      (event: string, fields?: LogFields): void => {
        if (isOpen()) this.add(node, level, event, fields);
      };
    return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
  }

  /** The last `count` lines as text. */
  last(count: number): string[] {
    return this.#lines.slice(-count).map(({ timeMs, node, level, event, fields }) => {
      const shown = Object.entries(fields ?? {}).map(([name, value]) => `${name}=${String(value)}`);
      return `${timeMs.toFixed(3)} ${node} ${level} ${event} ${shown.join(' ')}`.trimEnd();
    });
  }
}
