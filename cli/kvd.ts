#!/usr/bin/env node
// kvd: one node, or with `kvd dev` a whole local cluster. The first argument chooses; everything
// else is in cli/node. Exit codes: 0 stopped as asked, 1 crash, 2 bad usage or configuration,
// 3 data directory refused, 4 disk failed.

import { main } from './node/command-line.ts';

await main(process.argv.slice(2));
