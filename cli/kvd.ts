#!/usr/bin/env node
// kvd: one node, or with `kvd dev` a whole local cluster. The first argument chooses; everything
// else is in cli/node. Exit codes: 0 stopped as asked, 1 crash, 2 bad usage or configuration,
// 3 data directory refused, 4 disk failed.

import { setFlagsFromString } from 'node:v8';
import { main } from './node/command-line.ts';

// Each thread collects its young objects by itself. Few of them survive, and helpers would have to wait
// for a processor that other threads of the node have (docs/performance.md).
setFlagsFromString('--no-parallel-scavenge');

await main(process.argv.slice(2));
