// What a node says about itself and its cluster: the ring, the state of all nodes, figures for
// Prometheus. Nothing of it waits for another node.

import type { Ref } from '../../runtime/actor.ts';
import { failure } from '../../runtime/errors.ts';
import type { MetricSample } from '../../runtime/metrics.ts';
import type { FailureDetector, Gossiper } from '../membership/protocol.ts';
import type { Namespaces } from '../model/namespaces.ts';
import type { Ring } from '../model/ring.ts';
import { usualGroup } from '../model/table-choices.ts';
import { rank } from '../model/users.ts';
import type { Monitor } from '../observability/protocol.ts';
import { type Login, roleIn } from './access.ts';
import { type ClusterView, clusterStatus, ringDocument } from './cluster-answers.ts';
import { jsonAnswer, textAnswer } from './http-answers.ts';
import { problemAnswer } from './http-routes.ts';
import type { GatewaySettings } from './http-requests.ts';
import type { NodeExchange, NodeHandlers, NodeTools } from './node-answers.ts';
import { runAll } from './run-all.ts';

export interface StateOptions extends Pick<GatewaySettings, 'defaults'> {
  readonly ring: Ring;
  readonly durability: 'group' | 'periodic' | 'none';
  readonly gossiper: Ref<Gossiper>;
  readonly detector: Ref<FailureDetector>;
  /** One per thread. */
  readonly monitors: readonly Ref<Monitor>[];
  /** Figures as the text of /metrics: actors/observability/prometheus-text.ts. */
  readonly renderMetrics: (samples: Iterable<MetricSample>) => string;
}

export const figuresTimeoutMs = 2000;
const metricsContentType = 'text/plain; version=0.0.4; charset=utf-8';

export interface StateTools extends NodeTools {
  readonly namespaces: () => Namespaces;
}

/** Handlers by the names of their routes. */
export function stateHandlers(tools: StateTools, options: StateOptions): NodeHandlers {
  return {
    'cluster-status': (exchange) => cluster(tools, options, exchange, clusterStatus),
    ring: (exchange) => cluster(tools, options, exchange, ringDocument),
    metrics: (exchange) => metrics(tools, options, exchange),
  };
}

function cluster(
  { ask, node }: NodeTools,
  { ring, gossiper, detector, defaults, durability }: StateOptions,
  { answer }: NodeExchange,
  render: (view: ClusterView) => object,
): void {
  ask(gossiper, 'states', {}, figuresTimeoutMs, (problem, gossip) => {
    if (gossip === undefined) return answer(problemAnswer(problem ?? failure('BUG')));
    ask(detector, 'peers', {}, figuresTimeoutMs, (unknown, liveness) => {
      if (liveness === undefined) return answer(problemAnswer(unknown ?? failure('BUG')));
      const own = { node, durability, clockOffMicros: liveness.clockOffMicros };
      const view = { ring, defaults, own, states: gossip.states, peers: liveness.peers };
      answer(jsonAnswer(render(view)));
    });
  });
}

/** A thread that does not answer in time is left out and counted, so that the rest is seen. */
function metrics(
  { ask, namespaces }: StateTools,
  { monitors, renderMetrics }: StateOptions,
  { answer, login }: NodeExchange,
): void {
  runAll<Ref<Monitor>, { readonly samples: readonly MetricSample[] }>(
    monitors,
    (thread, done) => ask(thread, 'samples', {}, figuresTimeoutMs, done),
    (outcomes) => {
      const replies = outcomes.flatMap((outcome) => ('reply' in outcome ? [outcome.reply] : []));
      const silent: MetricSample = {
        name: 'kvd_monitor_silent_threads',
        help: 'Threads whose figures are missing on this page',
        type: 'gauge',
        labels: {},
        value: outcomes.length - replies.length,
        buckets: [],
        sum: 0,
      };
      const samples = replies
        .flatMap((reply) => reply.samples)
        .filter(({ labels: { group } }) => maySee(login, group, namespaces()));
      answer(textAnswer(renderMetrics([...samples, silent]), metricsContentType));
    },
  );
}

/** Figures of a compaction group bear the name of its first namespace (rule SE-16). */
function maySee(login: Login | undefined, group: string | undefined, known: Namespaces): boolean {
  if (login === undefined || group === undefined || group === usualGroup) return true;
  return roleIn(login, group, known) > rank.none;
}
