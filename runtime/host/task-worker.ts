// The worker file of the task pool for the tasks that every node has; piscina loads it in each of
// its threads and calls `serveTask`.

import { coreTasks } from '../tasks.ts';
import { taskServer } from './task-server.ts';

export const serveTask = taskServer(coreTasks);
