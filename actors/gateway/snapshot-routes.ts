// Snapshots over HTTP. Making, listing and deleting goes to the nodes that the request names, by
// default all members, through any node; each has its own outcome, as in a batch. Manifests and
// tables are read from the node that is asked: whoever copies them knows where they are.

import { refTo } from '../../runtime/actor.ts';
import { type Failure, failure } from '../../runtime/errors.ts';
import { JsonReader } from '../model/json-slices.ts';
import { Snapshotter, type SnapshotSummary } from '../storage/protocol.ts';
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
import type { HttpAnswer, HttpRequest } from './protocol.ts';

const nodeName = /^[A-Za-z0-9_-]{1,64}$/;
const wholeNumber = /^(0|[1-9][0-9]{0,14})$/;
const readBytesDefault = 256 * 1024;
const readBytesMax = 1024 * 1024;

/** Handlers by the names of their routes. */
export function snapshotHandlers(tools: NodeTools): NodeHandlers {
  return {
    'snapshot-create': (exchange) => create(tools, exchange),
    snapshots: (exchange) => list(tools, exchange),
    'snapshot-delete': (exchange) => remove(tools, exchange),
    snapshot: (exchange) => describe(tools, exchange),
    'snapshot-table': (exchange) => readTable(tools, exchange),
  };
}

function create(tools: NodeTools, exchange: NodeExchange): void {
  const { name, nodes } = parseCreate(exchange.request, tools);
  onNodes<SnapshotSummary>(
    nodes,
    (node, done) =>
      tools.ask(refTo(Snapshotter, node), 'create', { name }, exchange.timeoutMs, done),
    (outcomes) => exchange.answer(nodesAnswer(name, nodes, outcomes, summaryMembers)),
  );
}

function list({ ask, members }: NodeTools, { request, timeoutMs, answer }: NodeExchange) {
  const nodes = nodesOf(request, members);
  onNodes<{ readonly snapshots: readonly SnapshotSummary[] }>(
    nodes,
    (node, done) => ask(refTo(Snapshotter, node), 'list', {}, timeoutMs, done),
    (outcomes) =>
      answer(
        nodesAnswer(undefined, nodes, outcomes, ({ snapshots }) => ({
          snapshots: snapshots.map(summaryMembers),
        })),
      ),
  );
}

function remove({ ask, members }: NodeTools, { request, timeoutMs, answer }: NodeExchange): void {
  const name = nameOf(request);
  const nodes = nodesOf(request, members);
  onNodes<{ readonly isRemoved: boolean }>(
    nodes,
    (node, done) => ask(refTo(Snapshotter, node), 'remove', { name }, timeoutMs, done),
    (outcomes) => {
      const isNowhere = outcomes.every((one) => 'reply' in one && !one.reply.isRemoved);
      if (isNowhere) return answer(problemAnswer(missing(name)));
      answer(nodesAnswer(name, nodes, outcomes, ({ isRemoved }) => ({ deleted: isRemoved })));
    },
  );
}

function describe({ ask, node }: NodeTools, { request, timeoutMs, answer }: NodeExchange): void {
  const name = nameOf(request);
  ask(refTo(Snapshotter, node), 'describe', { name }, timeoutMs, (problem, reply) => {
    if (reply === undefined) return answer(problemAnswer(problem ?? failure('BUG')));
    answer(bytesAnswer(reply.manifest, reply.manifest.length));
  });
}

function readTable({ ask, node }: NodeTools, { request, timeoutMs, answer }: NodeExchange): void {
  const { params, query } = request;
  const body = {
    name: nameOf(request),
    shard: number(params['shard'], 'shard', 0xffff_ffff),
    fileNumber: number(params['table'], 'table', 9_999_999_999),
    offset: number(query['offset'] ?? '0', 'offset', Number.MAX_SAFE_INTEGER),
    length: number(query['length'] ?? String(readBytesDefault), 'length', readBytesMax),
  };
  ask(refTo(Snapshotter, node), 'read', body, timeoutMs, (problem, reply) => {
    if (reply === undefined) return answer(problemAnswer(problem ?? failure('BUG')));
    answer(bytesAnswer(reply.bytes, reply.size));
  });
}

// ---- requests ------------------------------------------------------------------------------

function number(text: string | undefined, field: string, max: number): number {
  const value = wholeNumber.test(text ?? '') ? Number(text) : Number.NaN;
  if (!(value <= max)) refuseField(field, `a whole number up to ${max}`);
  return value;
}

function checkName(name: string): string {
  if (!nodeName.test(name)) refuseField('name', '1 to 64 letters, digits, hyphens or underscores');
  return name;
}

const nameOf = ({ params }: HttpRequest): string => checkName(params['name'] ?? '');

function parseCreate(
  request: HttpRequest,
  { members }: NodeTools,
): { readonly name: string; readonly nodes: readonly string[] } {
  checkJson(request);
  let name: string | undefined;
  let nodes: string[] | undefined;
  const reader = new JsonReader(request.body);
  reader.object((member) => {
    if (member === 'name') name = reader.text();
    else if (member === 'nodes') nodes = readNames(reader);
    else refuseField(member, 'one of the members name, nodes');
  });
  reader.end();
  return {
    name: checkName(name ?? ''),
    nodes: nodes === undefined ? members : checkNodes(nodes, members),
  };
}

const missing = (name: string): Failure =>
  failure('NOT_FOUND', { detail: `there is no snapshot ${name}` });

// ---- answers -------------------------------------------------------------------------------

const summaryMembers = (summary: SnapshotSummary): object => ({
  name: summary.name,
  created_ms: summary.createdMs,
  tables: summary.tables,
  records: summary.records,
  bytes: summary.bytes,
  max_hlc: summary.maxHlc,
});

const bytesAnswer = (body: Uint8Array, size: number): HttpAnswer => ({
  status: 200,
  headers: { 'content-type': 'application/octet-stream', 'x-total-bytes': String(size) },
  body,
});
