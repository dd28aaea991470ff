// What routes have in common that ask several nodes: each node has its own outcome, as in a batch,
// and those that refuse do not hide what the others did.

import type { BaseContext, Done } from '../../runtime/actor.ts';
import { describeFailure, failure, KvError } from '../../runtime/errors.ts';
import type { JsonReader } from '../model/json-slices.ts';
import { jsonAnswer, type Outcome } from './http-answers.ts';
import { problemAnswer } from './http-routes.ts';
import type { Login } from './access.ts';
import type { HttpAnswer, HttpRequest } from './protocol.ts';

/** What the routes need of their gateway. */
export interface NodeTools {
  readonly node: string;
  readonly members: readonly string[];
  readonly ask: BaseContext<object>['ask'];
}

/** One request: what came, how long there is, where the answer goes. */
export interface NodeExchange {
  readonly request: HttpRequest;
  readonly timeoutMs: number;
  /** Who asks; undefined: nobody has to say. */
  readonly login: Login | undefined;
  readonly answer: (answer: HttpAnswer) => void;
}

/** By the names of their routes. */
export type NodeHandlers = Readonly<Record<string, (exchange: NodeExchange) => void>>;

export function refuseField(field: string, expected: string): never {
  throw new KvError('BAD_REQUEST', { field, detail: `${field}: expected ${expected}` });
}

export function checkJson({ headers }: HttpRequest): void {
  if (!/^application\/json *(;|$)/i.test(headers['content-type'] ?? ''))
    throw new KvError('UNSUPPORTED_MEDIA_TYPE', { detail: 'expected application/json' });
}

/** An array of names, as the member `nodes` of a body has it. */
export function readNames(reader: JsonReader): string[] {
  const names: string[] = [];
  reader.array(() => void names.push(reader.text()));
  return names;
}

/** Those that the query names; by default all members. */
export function nodesOf({ query }: HttpRequest, members: readonly string[]): readonly string[] {
  const { nodes } = query;
  return nodes === undefined ? members : checkNodes(nodes.split(','), members);
}

export function checkNodes(
  nodes: readonly string[],
  members: readonly string[],
): readonly string[] {
  const isKnown = nodes.every((node) => members.includes(node));
  if (!isKnown || nodes.length === 0 || new Set(nodes).size !== nodes.length)
    refuseField('nodes', `members of the cluster, each once: ${members.join(', ')}`);
  return nodes;
}

export function onNodes<Reply>(
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
export function nodesAnswer<Reply>(
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
