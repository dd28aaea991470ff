// Snapshots over HTTP. Making, listing and deleting goes to the nodes that the request names, by
// default all members, through any node; each has its own outcome, as in a batch. Manifests and
// tables are read from the node that is asked: whoever copies them knows where they are.

import type { BaseContext, Done } from '../../runtime/actor.ts';
import { refTo } from '../../runtime/actor.ts';
import { describeFailure, type Failure, failure, KvError } from '../../runtime/errors.ts';
import { JsonReader } from '../model/json-slices.ts';
import { Snapshotter, type SnapshotSummary } from '../storage/protocol.ts';
import { jsonAnswer, type Outcome } from './http-answers.ts';
import { problemAnswer } from './http-routes.ts';
import type { HttpAnswer, HttpRequest } from './protocol.ts';

/** What the routes need of their gateway. */
export interface SnapshotTools {
  readonly node: string;
  readonly members: readonly string[];
  readonly ask: BaseContext<object>['ask'];
}

/** One request: what came, how long there is, where the answer goes. */
export interface SnapshotExchange {
  readonly request: HttpRequest;
  readonly timeoutMs: number;
  readonly answer: (answer: HttpAnswer) => void;
}

type SnapshotHandler = (exchange: SnapshotExchange) => void;

const nodeName = /^[A-Za-z0-9_-]{1,64}$/;
const wholeNumber = /^(0|[1-9][0-9]{0,14})$/;
const readBytesDefault = 256 * 1024;
const readBytesMax = 1024 * 1024;

function refuse(field: string, expected: string): never {
  throw new KvError('BAD_REQUEST', { field, detail: `${field}: expected ${expected}` });
}

/** Handlers by the names of their routes. */
export function snapshotHandlers(tools: SnapshotTools): Readonly<Record<string, SnapshotHandler>> {
  return {
    'snapshot-create': (exchange) => create(tools, exchange),
    snapshots: (exchange) => list(tools, exchange),
    'snapshot-delete': (exchange) => remove(tools, exchange),
    snapshot: (exchange) => describe(tools, exchange),
    'snapshot-table': (exchange) => readTable(tools, exchange),
  };
}

function create(tools: SnapshotTools, exchange: SnapshotExchange): void {
  const { name, nodes } = parseCreate(exchange.request, tools);
  onNodes<SnapshotSummary>(
    nodes,
    (node, done) =>
      tools.ask(refTo(Snapshotter, node), 'create', { name }, exchange.timeoutMs, done),
    (outcomes) => exchange.answer(nodesAnswer(name, nodes, outcomes, summaryMembers)),
  );
}

function list({ ask, members }: SnapshotTools, { request, timeoutMs, answer }: SnapshotExchange) {
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

function remove(
  { ask, members }: SnapshotTools,
  { request, timeoutMs, answer }: SnapshotExchange,
): void {
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

function describe(
  { ask, node }: SnapshotTools,
  { request, timeoutMs, answer }: SnapshotExchange,
): void {
  const name = nameOf(request);
  ask(refTo(Snapshotter, node), 'describe', { name }, timeoutMs, (problem, reply) => {
    if (reply === undefined) return answer(problemAnswer(problem ?? failure('BUG')));
    answer(bytesAnswer(reply.manifest, reply.manifest.length));
  });
}

function readTable(
  { ask, node }: SnapshotTools,
  { request, timeoutMs, answer }: SnapshotExchange,
): void {
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
  if (!(value <= max)) refuse(field, `a whole number up to ${max}`);
  return value;
}

function checkName(name: string): string {
  if (!nodeName.test(name)) refuse('name', '1 to 64 letters, digits, hyphens or underscores');
  return name;
}

const nameOf = ({ params }: HttpRequest): string => checkName(params['name'] ?? '');

function nodesOf({ query }: HttpRequest, members: readonly string[]): readonly string[] {
  const { nodes } = query;
  return nodes === undefined ? members : checkNodes(nodes.split(','), members);
}

function checkNodes(nodes: readonly string[], members: readonly string[]): readonly string[] {
  const isKnown = nodes.every((node) => members.includes(node));
  if (!isKnown || nodes.length === 0 || new Set(nodes).size !== nodes.length)
    refuse('nodes', `members of the cluster, each once: ${members.join(', ')}`);
  return nodes;
}

function parseCreate(
  { body, headers }: HttpRequest,
  { members }: SnapshotTools,
): { readonly name: string; readonly nodes: readonly string[] } {
  if (!/^application\/json *(;|$)/i.test(headers['content-type'] ?? ''))
    throw new KvError('UNSUPPORTED_MEDIA_TYPE', { detail: 'expected application/json' });
  let name: string | undefined;
  let nodes: string[] | undefined;
  const reader = new JsonReader(body);
  reader.object((member) => {
    if (member === 'name') name = reader.text();
    else if (member === 'nodes') {
      const named: string[] = [];
      reader.array(() => void named.push(reader.text()));
      nodes = named;
    } else refuse(member, 'one of the members name, nodes');
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

function onNodes<Reply>(
  nodes: readonly string[],
  run: (node: string, done: Done<Reply>) => void,
  done: (outcomes: readonly Outcome<Reply>[]) => void,
): void {
  const outcomes: Outcome<Reply>[] = [];
  let open = nodes.length;
  nodes.forEach((node, i) =>
    run(node, (problem, reply) => {
      outcomes[i] = reply === undefined ? { failure: problem ?? failure('BUG') } : { reply };
      open -= 1;
      if (open === 0) done(outcomes);
    }),
  );
}

/** One member per node; a single node that refuses is the whole answer. */
function nodesAnswer<Reply>(
  name: string | undefined,
  nodes: readonly string[],
  outcomes: readonly Outcome<Reply>[],
  members: (reply: Reply) => object,
): HttpAnswer {
  const [only] = outcomes;
  if (outcomes.length === 1 && only !== undefined && 'failure' in only)
    return problemAnswer(only.failure);
  const rows = outcomes.map((outcome, i) => {
    const node = nodes[i];
    if ('reply' in outcome) return { node, ...members(outcome.reply) };
    const { code } = outcome.failure;
    return { node, error: { code, detail: describeFailure(outcome.failure) } };
  });
  const complete = outcomes.every((outcome) => 'reply' in outcome);
  return jsonAnswer({ ...(name === undefined ? {} : { name }), complete, nodes: rows });
}

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
