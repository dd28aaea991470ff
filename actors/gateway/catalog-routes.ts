// What the routes about namespaces and users share: the document that the cluster has decided, as it
// is now or as a change leaves it, becomes the answer.

import { refTo } from '../../runtime/actor.ts';
import { failure } from '../../runtime/errors.ts';
import { Catalog, type CatalogBytes, type CatalogChange } from '../catalog/protocol.ts';
import { type CatalogDocument, decodeCatalog } from '../model/namespaces.ts';
import { problemAnswer } from './http-routes.ts';
import type { NodeExchange, NodeTools } from './node-answers.ts';
import type { HttpAnswer } from './protocol.ts';

type Render = (document: CatalogDocument) => HttpAnswer;

export function lookAtCatalog(
  { ask, node }: NodeTools,
  { timeoutMs, answer }: NodeExchange,
  render: Render,
): void {
  ask(refTo(Catalog, node), 'refresh', {}, timeoutMs, (problem, reply) => {
    if (reply === undefined) answer(problemAnswer(problem ?? failure('BUG')));
    else answer(render(decodeCatalog(reply.document)));
  });
}

/** `changed` hears of the new document before the client does. */
export function changeCatalog(
  { ask, node }: NodeTools,
  { timeoutMs, answer }: NodeExchange,
  wanted: CatalogChange,
  render: Render,
  changed?: (known: CatalogBytes) => void,
): void {
  ask(refTo(Catalog, node), 'change', wanted, timeoutMs, (problem, reply) => {
    if (reply === undefined) return answer(problemAnswer(problem ?? failure('BUG')));
    changed?.(reply);
    answer(render(decodeCatalog(reply.document)));
  });
}
