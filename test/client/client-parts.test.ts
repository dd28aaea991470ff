// Parts of the client library that touch no network.

import { expect } from 'chai';
import { hashKey } from '../../actors/model/token.ts';
import { storageKey } from '../../actors/model/record.ts';
import { Ring } from '../../actors/model/ring.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { CircuitBreaker } from '../../cli/client/circuit-breaker.ts';
import { LatencyWindow } from '../../cli/client/latency-window.ts';
import { parseTopology, replicaUrls, type Topology } from '../../cli/client/topology.ts';

const members = ['n1', 'n2', 'n3', 'n4', 'n5'];
const documentOf = (changes: object = {}): Buffer =>
  Buffer.from(
    JSON.stringify({
      members,
      virtual_nodes: 32,
      replication_factor: 3,
      nodes: members.map((node, i) => ({ node_id: node, address: `127.0.0.1:${7000 + i}` })),
      ...changes,
    }),
  );

describe('client: topology', () => {
  it('topology: a key goes to the replicas that the cluster gives it (keys=500, tags too)', () => {
    const topology = parseTopology(documentOf()) as Topology;
    const ring = new Ring({ members, virtualNodes: 32, replicationFactor: 3 });
    for (let i = 0; i < 500; i += 1) {
      const key = i % 2 === 0 ? `key-${i}` : `a{tag-${i % 7}}${i}é`;
      const { token } = hashKey(storageKey(0, utf8.encode(key)));
      const expected = ring.replicasOf(token).map((node) => `127.0.0.1:${6999 + Number(node[1])}`);
      expect(replicaUrls(topology, key).map(({ host }) => host)).to.deep.equal(expected);
    }
  });

  it('topology: members whose address is unknown are left out; nonsense is no topology', () => {
    const nodes = [
      { node_id: 'n1', address: null },
      { node_id: 'n2', address: '127.0.0.1:1' },
    ];
    expect([...(parseTopology(documentOf({ nodes })) as Topology).urls.keys()]).to.deep.equal([
      'n2',
    ]);
    for (const text of ['', '[]', '{}', '{"members":[]}', '{"members":["a"],"virtual_nodes":0}'])
      expect(parseTopology(Buffer.from(text)), text).to.equal(undefined);
  });
});

describe('client: circuit breaker', () => {
  it('breaker: opens at the fifth failure in a row, and a success in between starts anew', () => {
    const breaker = new CircuitBreaker();
    for (let i = 0; i < 4; i += 1) breaker.failed(0);
    breaker.succeeded();
    for (let i = 0; i < 4; i += 1) breaker.failed(0);
    expect(breaker.state(0)).to.equal('closed');
    breaker.failed(0);
    expect(breaker.state(499)).to.equal('open');
    expect(breaker.state(500)).to.equal('half open');
  });

  it('breaker: one request finds out; its failure doubles the pause up to the longest', () => {
    const breaker = new CircuitBreaker({ failuresMax: 1, pauseMs: 100, pauseMsMax: 350 });
    breaker.failed(0);
    let nowMs = 0;
    for (const pauseMs of [100, 200, 350, 350]) {
      expect(breaker.state(nowMs + pauseMs - 1)).to.equal('open');
      nowMs += pauseMs;
      expect(breaker.state(nowMs)).to.equal('half open');
      breaker.sent(nowMs);
      expect(breaker.state(nowMs), 'while it is tried').to.equal('open');
      breaker.failed(nowMs);
    }
    nowMs += 350;
    breaker.sent(nowMs);
    breaker.succeeded();
    expect(breaker.state(nowMs)).to.equal('closed');
  });

  it('breaker: a trial that was given up leaves the next one to find out', () => {
    const breaker = new CircuitBreaker({ failuresMax: 1, pauseMs: 100 });
    breaker.failed(0);
    breaker.sent(100);
    breaker.abandoned();
    expect(breaker.state(100)).to.equal('half open');
  });
});

describe('client: latencies', () => {
  it('latencies: the share of the last 256, nothing before there are 32', () => {
    const window = new LatencyWindow();
    for (let i = 1; i <= 31; i += 1) window.add(i);
    expect(window.percentile(0.95)).to.equal(undefined);
    window.add(32);
    expect(window.percentile(0.95)).to.equal(31);
    expect(window.percentile(1)).to.equal(32);
    for (let i = 0; i < 256; i += 1) window.add(7);
    expect([window.percentile(0), window.percentile(1)]).to.deep.equal([7, 7]);
  });
});
