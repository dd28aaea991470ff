// How long an operation may take: the settings decide, and both edges wait for longer than that.

import { expect } from 'chai';
import { Sealer } from '../../runtime/seal.ts';
import { utf8 } from '../../runtime/bytes.ts';
import {
  defaultGatewaySettings,
  parseTerms,
  type TermsKind,
} from '../../actors/gateway/http-requests.ts';
import { type GatewayTimeouts, usualTimeouts } from '../../actors/gateway/protocol.ts';
import type { RespCall } from '../../actors/gateway/resp-call.ts';
import { RespConnection } from '../../actors/gateway/resp-connection.ts';
import { RespRunner } from '../../actors/gateway/resp-runner.ts';
import { firstNamespaces } from '../../actors/model/namespaces.ts';
import { HttpEdge } from '../../transport/edge-http.ts';
import { RespEdge } from '../../transport/edge-resp.ts';
import { send } from '../kit-gateway.ts';
import { command, exchange } from '../kit-resp.ts';

const long: GatewayTimeouts = {
  readTimeoutMs: 20_000,
  writeTimeoutMs: 600_000,
  scanTimeoutMs: 30_000,
};

describe('answer times', () => {
  const askedOfHttp = async (
    timeouts: GatewayTimeouts | undefined,
    headers: Record<string, string>,
  ): Promise<number> => {
    let asked = 0;
    const edge = new HttpEdge({
      ...{ node: 'n1', host: '127.0.0.1', port: 0 },
      ...(timeouts === undefined ? {} : { timeouts }),
      ask: (_request, timeoutMs, _trace, done) => {
        asked = timeoutMs;
        done(undefined, { status: 200, headers: {}, body: new Uint8Array(0) });
      },
    });
    const { port } = await edge.listen();
    await send(port, 'GET', '/api/v1/keys/k', { headers });
    await edge.close();
    return asked;
  };

  it('answer times: the HTTP edge waits for the longest setting and 5 s, or for the deadline asked', async () => {
    expect(await askedOfHttp(undefined, {})).to.equal(15_000);
    expect(await askedOfHttp(long, {})).to.equal(605_000);
    expect(await askedOfHttp(long, { 'x-deadline-ms': '200' })).to.equal(700);
    expect(await askedOfHttp(long, { 'x-deadline-ms': '60000' })).to.equal(60_500);
  });

  const askedOfResp = async (timeouts: GatewayTimeouts | undefined): Promise<number> => {
    let asked = 0;
    const edge = new RespEdge({
      ...{ host: '127.0.0.1', port: 0, opened: () => undefined, closed: () => undefined },
      ...(timeouts === undefined ? {} : { timeouts }),
      run: (_batch, timeoutMs, done) => {
        asked = timeoutMs;
        const bytes = utf8.encode('+OK\r\n');
        done(undefined, { bytes, count: 1, isLast: false, isLoggedIn: true });
      },
    });
    const { port } = await edge.listen();
    expect(await exchange(port, command('PING'))).to.equal('+OK\r\n');
    await edge.close();
    return asked;
  };

  it('answer times: the Redis edge waits for ten seconds of a batch, its longest command and 10 s', async () => {
    expect(await askedOfResp(undefined)).to.equal(60_000);
    expect(await askedOfResp(long)).to.equal(620_000);
  });

  it('answer times: over HTTP a serial operation ends as a read or a write does', () => {
    const termsOf = (kind: TermsKind, headers: Record<string, string>): number => {
      const request = { route: '', params: {}, query: {}, headers, body: new Uint8Array(0) };
      const defaults = { ...defaultGatewaySettings.defaults, ...long };
      const common = { namespaces: firstNamespaces, sealer: new Sealer('test') };
      const settings = { ...common, defaults, replicas: 3, nowMs: 0 };
      return parseTerms(request, kind, settings, () => undefined).timeoutMs;
    };
    const serial = { 'consistency-level': 'SERIAL' };
    expect(termsOf('serial', {})).to.equal(600_000);
    expect(termsOf('write', serial)).to.equal(600_000);
    expect(termsOf('read', serial)).to.equal(20_000);
    expect(termsOf('read', {})).to.equal(20_000);
    expect(termsOf('scan', {})).to.equal(30_000);
    expect(termsOf('serial', { 'x-deadline-ms': '7' })).to.equal(7);
  });

  it('answer times: commands that wait for each other end within what the edge waits', () => {
    const started: RespCall[] = [];
    let nowMs = 0;
    const runner = new RespRunner({
      start: (call) => started.push(call),
      nowMs: () => nowMs,
      isLoggedIn: () => true,
      timeouts: usualTimeouts,
      wakeSoon: () => undefined,
      onEnded: () => undefined,
      onIdle: () => undefined,
    });
    const levels = { namespace: 0, readLevel: 'ONE', writeLevel: 'ONE' } as const;
    const connection = new RespConnection({ connection: 1, remote: '', local: '' }, levels, 0);
    const one = { args: ['INCR', 'k'].map((word) => utf8.encode(word)), isTooLarge: false };
    let isAnswered = false;
    const answer = { resolve: () => (isAnswered = true) };
    runner.run(connection, Array(6).fill(one), answer as never);
    for (let at = 0; at < 6; at += 1) {
      const call = started[at];
      // Each takes all the time that it has.
      nowMs = Math.max(nowMs, call?.deadlineMs ?? Infinity);
      call?.answer(1);
      runner.wake();
    }
    expect(isAnswered).to.equal(true);
    expect(started.map(({ deadlineMs }) => deadlineMs)).to.deep.equal([
      5000,
      10_000,
      ...Array<number>(4).fill(15_000),
    ]);
  });
});
