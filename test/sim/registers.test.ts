// The workload: unique values, and outcomes as rules 2.8 names them.

import { expect } from 'chai';
import { utf8 } from '../../runtime/bytes.ts';
import { failure } from '../../runtime/errors.ts';
import type { Outcome } from '../../sim/history.ts';
import { classify, parseEtag } from '../../sim/workloads/http-client.ts';

const problem = (status: number, code: string): Parameters<typeof classify>[1] => ({
  kind: 'reply',
  reply: { status, headers: {}, body: utf8.encode(JSON.stringify({ code })) },
});

describe('sim registers', () => {
  const rows: readonly (readonly [number, string, Outcome])[] = [
    [409, 'CONFLICT', 'ok'],
    [400, 'BAD_REQUEST', 'fail'],
    [401, 'UNAUTHORIZED', 'fail'],
    [413, 'TOO_LARGE', 'fail'],
    [429, 'OVERLOADED', 'fail'],
    [503, 'UNAVAILABLE', 'fail'],
    [503, 'DRAINING', 'fail'],
    [503, 'UNREACHABLE', 'info'],
    [504, 'TIMEOUT', 'info'],
    [504, 'UNKNOWN_OUTCOME', 'info'],
    [500, 'BUG', 'info'],
    [500, 'something else', 'info'],
  ];
  for (const [status, code, outcome] of rows)
    it(`registers: ${status} ${code} is ${outcome} (rule 2.8)`, () => {
      expect(classify('put', problem(status, code)).outcome).to.equal(outcome);
    });

  it('registers: not found is an answer to a get, and a failure of a put', () => {
    expect(classify('get', problem(404, 'NOT_FOUND'))).to.deep.equal({
      outcome: 'ok',
      code: undefined,
    });
    expect(classify('put', problem(404, 'NOT_FOUND')).outcome).to.equal('fail');
  });

  it('registers: refused has no effect, lost may have one, a failed ask as its code says', () => {
    expect(classify('put', { kind: 'refused' }).outcome).to.equal('fail');
    expect(classify('put', { kind: 'lost' }).outcome).to.equal('info');
    const failed = { kind: 'failure', failure: failure('TIMEOUT') } as const;
    expect(classify('put', failed).outcome).to.equal('info');
    const refused = { kind: 'failure', failure: failure('OVERLOADED') } as const;
    expect(classify('put', refused).outcome).to.equal('fail');
  });

  it('registers: a found value carries its etag', () => {
    const reply = { status: 200, headers: { etag: '"z-10-1"' }, body: utf8.encode('hello') };
    const found = classify('get', { kind: 'reply', reply });
    expect(found.etag).to.deep.equal({ hlc: 35, writer: 36, incarnation: 1 });
    expect(found.value).to.equal('hello/5/3610a686');
    expect(parseEtag('"1-2"')).to.equal(undefined);
    expect(parseEtag(undefined)).to.equal(undefined);
  });
});
