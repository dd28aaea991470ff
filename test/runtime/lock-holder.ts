// A process of its own for directory-lock.test.ts: takes the lock of the directory that it is given,
// says so, and holds it until it is killed.

import { lockDirectory } from '../../runtime/host/directory-lock.ts';

await lockDirectory(process.argv[2] ?? '');
process.stdout.write('locked\n');
setInterval(() => undefined, 60_000);
