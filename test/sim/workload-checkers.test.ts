// The checkers of sessions, lifetimes, walks and files, on histories that are good and on the same
// histories with one corruption (CK-14).

import { expect } from 'chai';
import type { Etag } from '../../actors/model/record.ts';
import { Ring } from '../../actors/model/ring.ts';
import { type Checker, type Evidence, evidenceOf } from '../../sim/checker.ts';
import { expiryChecker } from '../../sim/checkers/expiry.ts';
import { checkQuorumFloor } from '../../sim/checkers/quorum-floor.ts';
import { scanChecker } from '../../sim/checkers/scans.ts';
import { sessionChecker } from '../../sim/checkers/sessions.ts';
import { checkDurability } from '../../sim/checkers/settled.ts';
import { inspectRing, structureChecker } from '../../sim/checkers/structure.ts';
import { watchChecker } from '../../sim/checkers/watches.ts';
import type { Operation } from '../../sim/history.ts';
import { checkers, workloadKinds } from '../../sim/registry.ts';

const etag = (hlc: number): Etag => ({ hlc, writer: 1, incarnation: 1 });

let index = 0;
function operation(workload: string, part: Partial<Operation>): Operation {
  index += 1;
  return {
    index,
    workload,
    client: 0,
    turn: index,
    kind: 'get',
    key: 'k',
    process: 1,
    node: 'n1',
    level: 'QUORUM',
    phase: 'chaos',
    invokedMs: 0,
    returnedMs: 0,
    outcome: 'ok',
    value: undefined,
    etag: undefined,
    code: undefined,
    ...part,
  };
}

const at = (startMs: number): Pick<Operation, 'invokedMs' | 'returnedMs'> => ({
  invokedMs: startMs,
  returnedMs: startMs + 5,
});

const problems = (
  { check }: Checker,
  operations: readonly Operation[],
  part: Partial<Omit<Evidence, 'operations' | 'of'>> = {},
): string[] =>
  check(evidenceOf(operations, part)).violations.map(({ rule, what }) => `${rule} ${what}`);

describe('sim registry', () => {
  it('registry: names are unique, and every checker passes a run without operations', () => {
    const ids = checkers.map(({ id }) => id);
    expect(new Set(ids).size).to.equal(ids.length);
    const names = workloadKinds.map(({ name }) => name);
    expect(new Set(names).size).to.equal(names.length);
    for (const { check } of checkers)
      expect(check(evidenceOf([]))).to.deep.equal({ judged: 0, violations: [] });
  });
});

describe('sim session checker', () => {
  const put = (session: number, hlc: number, startMs: number, part: Partial<Operation> = {}) =>
    operation('sessions', { kind: 'put', session, etag: etag(hlc), ...at(startMs), ...part });
  const get = (session: number, hlc: number, startMs: number, part: Partial<Operation> = {}) =>
    operation('sessions', {
      session,
      etag: hlc === 0 ? undefined : etag(hlc),
      value: hlc === 0 ? undefined : `v${hlc}`,
      ...at(startMs),
      ...part,
    });
  const remove = (session: number, hlc: number, startMs: number): Operation =>
    operation('sessions', { kind: 'delete', session, etag: etag(hlc), ...at(startMs) });
  const good = (): Operation[] => [
    put(1, 10, 0),
    get(1, 10, 10),
    put(2, 20, 20),
    get(1, 10, 30),
    get(1, 20, 40),
    remove(2, 30, 50),
    get(1, 20, 60),
    get(1, 0, 70),
    get(3, 0, 80),
  ];

  it('sessions: a good history passes, others may be behind', () => {
    expect(problems(sessionChecker, good())).to.deep.equal([]);
    expect(sessionChecker.check(evidenceOf(good())).judged).to.equal(9);
  });

  const older = 'CK-5 a session was shown something older than it knew';
  it('sessions: its own write is not read (CK-5)', () => {
    expect(problems(sessionChecker, [put(1, 10, 0), get(1, 0, 10)])).to.deep.equal([older]);
    expect(problems(sessionChecker, [put(1, 10, 0), get(1, 5, 10)])).to.deep.equal([older]);
  });

  it('sessions: a read goes back behind an earlier read (CK-5)', () => {
    const back = [...good().slice(0, 5), get(1, 10, 60)];
    expect(problems(sessionChecker, back)).to.deep.equal([older]);
  });

  it('sessions: a write that is older than what was seen (CK-5, writes follow reads)', () => {
    expect(problems(sessionChecker, [put(2, 20, 0), get(1, 20, 10), put(1, 15, 20)])).to.deep.equal(
      ['CK-5 a write of a session is older than what the session knew'],
    );
  });

  it('sessions: errors and lost answers promise nothing', () => {
    const lost = { outcome: 'info' as const, etag: undefined, returnedMs: undefined };
    expect(problems(sessionChecker, [put(1, 10, 0, lost), get(1, 0, 10)])).to.deep.equal([]);
    const failed = { outcome: 'fail' as const, code: 'SESSION_UNSATISFIED' };
    expect(problems(sessionChecker, [put(1, 10, 0), get(1, 0, 10, failed)])).to.deep.equal([]);
  });

  it('sessions: keys and sessions are apart', () => {
    const other = get(1, 0, 10, { key: 'other' });
    expect(problems(sessionChecker, [put(1, 10, 0), other, get(2, 0, 20)])).to.deep.equal([]);
  });
});

describe('sim expiry checker', () => {
  const put = (part: Partial<Operation> = {}): Operation =>
    operation('expiries', { kind: 'put', value: 'v', ttlMs: 5_000, ...at(1_000), ...part });
  const get = (startMs: number, isThere: boolean): Operation =>
    operation('expiries', { value: isThere ? 'v' : undefined, ...at(startMs) });
  const there = 'CK-7 it was gone before its lifetime had ended';
  const gone = 'CK-7 it was read after its lifetime had ended';

  it('expiry: there until it ends, gone after it, and unknown in between', () => {
    const good = [put(), get(1_100, true), get(4_900, true), get(7_100, false)];
    expect(problems(expiryChecker, good)).to.deep.equal([]);
    expect(expiryChecker.check(evidenceOf(good)).judged).to.equal(3);
    for (const isThere of [true, false])
      expect(problems(expiryChecker, [put(), get(5_500, isThere)])).to.deep.equal([]);
  });

  it('expiry: read after its end, or missing before it (CK-7)', () => {
    expect(problems(expiryChecker, [put(), get(7_100, true)])).to.deep.equal([gone]);
    expect(problems(expiryChecker, [put(), get(1_100, false)])).to.deep.equal([there]);
  });

  it('expiry: wrong clocks make both bounds wider', () => {
    const clockErrorMs = 1_000;
    expect(problems(expiryChecker, [put(), get(8_900, true)], { clockErrorMs })).to.deep.equal([]);
    expect(problems(expiryChecker, [put(), get(9_100, true)], { clockErrorMs })).to.deep.equal([
      gone,
    ]);
    expect(problems(expiryChecker, [put(), get(3_500, false)], { clockErrorMs })).to.deep.equal([]);
  });

  it('expiry: a put that failed is never read, one whose answer was lost may be at any time', () => {
    const failed = put({ outcome: 'fail' });
    expect(problems(expiryChecker, [failed, get(2_000, true)])).to.deep.equal([gone]);
    const lost = put({ outcome: 'info', returnedMs: undefined });
    expect(problems(expiryChecker, [lost, get(9_000, true), get(9_500, false)])).to.deep.equal([]);
  });

  it('expiry: what the faults may have destroyed need not be there, but still ends', () => {
    const lostCopies = 1;
    expect(problems(expiryChecker, [put(), get(1_100, false)], { lostCopies })).to.deep.equal([]);
    expect(problems(expiryChecker, [put(), get(9_000, true)], { lostCopies })).to.deep.equal([
      gone,
    ]);
  });
});

describe('sim scan checker', () => {
  const put = (key: string, startMs: number, part: Partial<Operation> = {}): Operation =>
    operation('scans', { kind: 'put', key, value: 'v', ...at(startMs), ...part });
  const walk = (keys: readonly string[], key = 'list'): Operation =>
    operation('scans', { kind: 'scan', key, keys, ...at(100) });
  const writes = (): Operation[] => [
    put('a', 0),
    put('b', 10),
    put('c', 20),
    operation('scans', { kind: 'delete', key: 'c', ...at(30) }),
    put('d', 102),
    put('e', 200),
    put('f', 40, { outcome: 'fail' }),
    put('g', 50, { outcome: 'info', returnedMs: undefined }),
  ];
  const check = (walked: Operation): string[] => problems(scanChecker, [...writes(), walked]);

  it('scans: what must come comes, what may come may', () => {
    for (const keys of [
      ['a', 'b'],
      ['a', 'b', 'c'],
      ['a', 'b', 'd', 'g'],
    ])
      expect(check(walk(keys))).to.deep.equal([]);
    expect(check(walk(['b', 'a'], 'scan'))).to.deep.equal([]);
  });

  it('scans: a key is missing, or comes twice (CK-10)', () => {
    expect(check(walk(['a']))).to.deep.equal([
      'CK-10 a key is missing that was there all the time (b)',
    ]);
    expect(check(walk(['a', 'b', 'a'], 'scan'))).to.deep.equal(['CK-10 a key came twice (a)']);
  });

  it('scans: a key that nobody wrote, had written yet, or wrote in vain (CK-10)', () => {
    for (const key of ['z', 'e', 'f'])
      expect(check(walk(['a', 'b', key]))).to.deep.equal([
        `CK-10 a key came that nobody had written (${key})`,
      ]);
  });

  it('scans: a list that is not in order (CK-10)', () => {
    expect(check(walk(['b', 'a']))).to.deep.equal(['CK-10 not in the order of bytes (b, a)']);
  });
});

describe('sim watch checker', () => {
  const write = (key: string, startMs: number, hlc: number): Operation =>
    operation('watches', { kind: 'put', key, etag: etag(hlc), ...at(startMs) });
  const stream = (
    session: number,
    startMs: number,
    told: readonly (readonly [string, number])[],
  ): Operation =>
    operation('watches', {
      kind: 'watch',
      key: 'watch-',
      session,
      told: told.map(([key, hlc]) => ({ key, etag: etag(hlc) })),
      ...at(startMs),
    });
  const writes = (): Operation[] => [write('a', 10, 1), write('b', 200, 2), write('a', 300, 3)];
  const check = (...streams: Operation[]): string[] =>
    problems(watchChecker, [...writes(), ...streams]);

  it('watches: a newer change of the key will do, also from another stream of one watch', () => {
    expect(
      check(
        stream(1, 0, [
          ['a', 1],
          ['b', 2],
          ['a', 3],
        ]),
      ),
    ).to.deep.equal([]);
    expect(
      check(
        stream(1, 0, [
          ['a', 3],
          ['b', 5],
        ]),
      ),
    ).to.deep.equal([]);
    expect(
      check(
        stream(1, 0, [['b', 2]]),
        stream(1, 250, [
          ['b', 2],
          ['a', 3],
        ]),
      ),
    ).to.deep.equal([]);
  });

  it('watches: a change that was never told, or only an older one of its key (WATCH-1)', () => {
    const never = 'WATCH-1 a change was never told';
    expect(check(stream(1, 0, [['a', 3]]))).to.deep.equal([never]);
    expect(
      check(
        stream(1, 0, [
          ['b', 2],
          ['a', 1],
        ]),
      ),
    ).to.deep.equal([never]);
  });

  it('watches: what came before the last reset, or before the watch, is not asked for', () => {
    expect(check(stream(1, 0, []), stream(2, 250, [['a', 3]]))).to.deep.equal([]);
    expect(check(stream(1, 400, []))).to.deep.equal([]);
    const lost = [...writes(), stream(1, 0, [])];
    expect(problems(watchChecker, lost, { lostCopies: 1 })).to.deep.equal([]);
  });

  it('watches: a key that goes back or comes twice in one stream (WATCH-1)', () => {
    const back = 'WATCH-1 a key went back in a stream';
    for (const hlc of [1, 3])
      expect(
        check(
          stream(1, 0, [
            ['b', 2],
            ['a', 3],
            ['a', hlc],
          ]),
        ),
      ).to.deep.equal([back]);
  });
});

describe('sim structure checker', () => {
  it('structure: problems of files are violations of their node (CK-13)', () => {
    const diskProblems = new Map([['n2', ['shard-0: a table is gone']]]);
    expect(problems(structureChecker, [], { diskProblems })).to.deep.equal([
      'CK-13 shard-0: a table is gone',
    ]);
    expect(structureChecker.check(evidenceOf([], { disksInspected: 3 }))).to.deep.equal({
      judged: 3,
      violations: [],
    });
  });

  it('structure: each token has its copies on different nodes (CK-13)', () => {
    const ring = new Ring({ members: ['n1', 'n2', 'n3'], virtualNodes: 4, replicationFactor: 2 });
    expect(inspectRing(ring, [0, 1_000, 2 ** 31], 2)).to.deep.equal([]);
    expect(inspectRing(ring, [0], 3)).to.have.length(1);
  });
});

describe('sim checkers and destroyed copies', () => {
  const put = operation('registers', {
    kind: 'put',
    value: 'v',
    etag: etag(10),
    level: 'QUORUM',
    ...at(0),
  });
  const read = (level: string): Operation =>
    operation('registers', { level, phase: 'final', ...at(100) });
  const rules = (write: Operation, level: string, lost: number): string[] => [
    ...checkDurability([write, read(level)], 3, lost).map(({ rule }) => rule),
    ...checkQuorumFloor([write, read(level)], 3, lost).map(({ rule }) => rule),
  ];

  it('checkers: one of two copies may be gone for a quorum, not for a read of all (G1)', () => {
    expect(rules(put, 'QUORUM', 0)).to.deep.equal(['CK-1', 'CK-4']);
    expect(rules(put, 'QUORUM', 1)).to.deep.equal([]);
    expect(rules(put, 'ALL', 1)).to.deep.equal(['CK-1', 'CK-4']);
  });

  it('checkers: of three copies two are left, and a quorum sees one of them', () => {
    const atAll = { ...put, level: 'ALL' };
    expect(rules(atAll, 'QUORUM', 1)).to.deep.equal(['CK-1', 'CK-4']);
    expect(rules(atAll, 'ONE', 1)).to.deep.equal([]);
    expect(rules(atAll, 'ALL', 3)).to.deep.equal([]);
  });
});
