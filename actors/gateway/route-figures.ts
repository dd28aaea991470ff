// Counts and times requests by route and status. The registry finds a series by a sorted text of
// its labels; this keeps the few series at hand, since it is asked for every request.

import type { Counter, Histogram, MetricRegistry } from '../../runtime/metrics.ts';

export class RouteFigures {
  readonly #metrics: MetricRegistry;
  readonly #requests = new Map<string, Map<number, Counter>>();
  readonly #seconds = new Map<string, Histogram>();

  constructor(metrics: MetricRegistry) {
    this.#metrics = metrics;
  }

  record(route: string, status: number, seconds: number): void {
    this.#counter(route, status).add();
    this.#histogram(route).record(seconds);
  }

  #counter(route: string, status: number): Counter {
    let byStatus = this.#requests.get(route);
    if (byStatus === undefined) {
      byStatus = new Map();
      this.#requests.set(route, byStatus);
    }
    let counter = byStatus.get(status);
    if (counter === undefined) {
      const labels = { route, status: String(status) };
      counter = this.#metrics.counter('kvd_http_requests_total', 'Requests answered', labels);
      byStatus.set(status, counter);
    }
    return counter;
  }

  #histogram(route: string): Histogram {
    let histogram = this.#seconds.get(route);
    if (histogram === undefined) {
      const help = 'From the gateway to its answer';
      histogram = this.#metrics.histogram('kvd_http_request_seconds', help, { route });
      this.#seconds.set(route, histogram);
    }
    return histogram;
  }
}
