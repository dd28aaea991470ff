// Care of the cluster over HTTP: repair and flush. A repair is run by the repairer of shard 0 of
// the node that is asked, for all members; whoever wants to know how far it is asks again, any
// node, since each one tells of the repairs that it ran itself.

import { refTo } from '../../runtime/actor.ts';
import { failure } from '../../runtime/errors.ts';
import { JsonReader } from '../model/json-slices.ts';
import { Repairer, type RepairReport, type RepairRequest } from '../repair/protocol.ts';
import { Snapshotter } from '../storage/protocol.ts';
import { jsonAnswer } from './http-answers.ts';
import { problemAnswer } from './http-routes.ts';
import {
  checkJson,
  checkNodes,
  type NodeExchange,
  type NodeHandlers,
  type NodeTools,
  nodesAnswer,
  nodesOf,
  onNodes,
  readNames,
  refuseField,
} from './node-answers.ts';
import type { HttpRequest } from './protocol.ts';

/** `copies`: replicas of each key. With one there is no repairer, and nothing to compare. */
export type AdminTools = NodeTools & { readonly copies: number };

/** Handlers by the names of their routes. */
export function adminHandlers(tools: AdminTools): NodeHandlers {
  return {
    repair: (exchange) => repair(tools, exchange),
    'repair-status': (exchange) => repairStatus(tools, exchange),
    flush: (exchange) => flush(tools, exchange),
  };
}

function repair(
  { ask, node, copies }: AdminTools,
  { request, timeoutMs, answer }: NodeExchange,
): void {
  const wanted = parseRepair(request);
  if (copies === 1)
    return answer(jsonAnswer({ node, repair: reportMembers(nothingToRepair) }, 202));
  ask(refTo(Repairer, node), 'run', wanted, timeoutMs, (problem, report) => {
    if (report === undefined) answer(problemAnswer(problem ?? failure('BUG')));
    else answer(jsonAnswer({ node, repair: reportMembers(report) }, 202));
  });
}

function repairStatus(
  { ask, members, copies }: AdminTools,
  { request, timeoutMs, answer }: NodeExchange,
): void {
  const nodes = nodesOf(request, members);
  onNodes<{ readonly report: RepairReport | undefined }>(
    nodes,
    (node, done) => {
      if (copies === 1) done(undefined, { report: undefined });
      else ask(refTo(Repairer, node), 'status', {}, timeoutMs, done);
    },
    (outcomes) =>
      answer(
        nodesAnswer(undefined, nodes, outcomes, ({ report }) => ({
          repair: report === undefined ? null : reportMembers(report),
        })),
      ),
  );
}

function flush({ ask, members }: NodeTools, { request, timeoutMs, answer }: NodeExchange): void {
  const nodes = parseNodes(request, members);
  onNodes<{ readonly tables: number }>(
    nodes,
    (node, done) => ask(refTo(Snapshotter, node), 'flush', {}, timeoutMs, done),
    (outcomes) => answer(nodesAnswer(undefined, nodes, outcomes, ({ tables }) => ({ tables }))),
  );
}

function parseRepair(request: HttpRequest): RepairRequest {
  checkJson(request);
  let set: string | undefined;
  let isFull = false;
  const reader = new JsonReader(request.body);
  reader.object((member) => {
    if (member === 'set') set = reader.text();
    else if (member === 'full') isFull = flagOf(reader.value());
    else refuseField(member, 'one of the members set, full');
  });
  reader.end();
  // The ids of sets name their members in order.
  return { set: set?.split(',').sort().join(','), isFull };
}

function flagOf(value: unknown): boolean {
  if (typeof value !== 'boolean') refuseField('full', 'true or false');
  return value;
}

function parseNodes(request: HttpRequest, members: readonly string[]): readonly string[] {
  checkJson(request);
  let nodes: string[] | undefined;
  const reader = new JsonReader(request.body);
  reader.object((member) => {
    if (member !== 'nodes') refuseField(member, 'the member nodes');
    nodes = readNames(reader);
  });
  reader.end();
  return nodes === undefined ? members : checkNodes(nodes, members);
}

/** Of a cluster that keeps one replica of each key. */
const nothingToRepair: RepairReport = {
  ...{ id: 0, startedMs: 0, tookMs: 0, isRunning: false, phase: 'nothing to compare' },
  ...{ setsWanted: 0, sets: [], leavesDiffering: 0, keysCompared: 0 },
  ...{ recordsScanned: 0, recordsSent: 0, bytesSent: 0 },
};

const reportMembers = (report: RepairReport): object => ({
  id: report.id,
  started_ms: Math.floor(report.startedMs),
  took_ms: report.tookMs,
  running: report.isRunning,
  phase: report.phase,
  sets_wanted: report.setsWanted,
  sets: report.sets.map(({ set, outcome, why }) => ({ set, outcome, why })),
  leaves_differing: report.leavesDiffering,
  keys_compared: report.keysCompared,
  records_scanned: report.recordsScanned,
  records_sent: report.recordsSent,
  bytes_sent: report.bytesSent,
});
