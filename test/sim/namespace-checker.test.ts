// The checker of namespaces, on histories that are good and on the same with one corruption (CK-14).

import { expect } from 'chai';
import type { Etag } from '../../actors/model/record.ts';
import { checkNamespaces } from '../../sim/checkers/namespaces.ts';
import type { Operation } from '../../sim/history.ts';

const etag = (hlc: number): Etag => ({ hlc, writer: 1, incarnation: 1 });

let index = 0;
const at = (startMs: number, part: Partial<Operation>): Operation => {
  index += 1;
  return {
    index,
    workload: 'namespaces',
    client: 0,
    turn: index,
    kind: 'get',
    key: 'a:k',
    process: 1,
    node: 'n1',
    level: 'QUORUM',
    phase: 'chaos',
    invokedMs: startMs,
    returnedMs: startMs + 5,
    outcome: 'ok',
    value: undefined,
    etag: undefined,
    code: undefined,
    ...part,
  };
};
const create = (startMs: number, part: Partial<Operation> = {}): Operation =>
  at(startMs, { kind: 'create', key: 'a', ...part });
const drop = (startMs: number, part: Partial<Operation> = {}): Operation =>
  at(startMs, { kind: 'drop', key: 'a', ...part });
const put = (startMs: number, value: string, part: Partial<Operation> = {}): Operation =>
  at(startMs, { kind: 'put', value, etag: etag(startMs), ...part });
const got = (startMs: number, value: string | undefined, hlc?: number): Operation =>
  at(startMs, { value, etag: hlc === undefined ? undefined : etag(hlc) });
const missing = (startMs: number): Operation =>
  at(startMs, { outcome: 'fail', code: 'NO_SUCH_NAMESPACE' });

const problems = (operations: readonly Operation[], mayLose = false): string[] =>
  checkNamespaces(operations, mayLose).map(({ what }) => what);

const foreign = 'a value of another key or namespace was seen';
const again = 'what was dropped was seen again';
const found = 'something was found in a namespace that was dropped';
const lost = 'what was acknowledged is lost';
const gone = 'a namespace that is there was said to be missing';

describe('sim checkers: namespaces', () => {
  const begin = [create(0), put(10, 'v1'), got(20, 'v1', 10)];

  it('checkers: NS-1 passes lives that are apart', () => {
    const history = [
      ...begin,
      drop(30),
      missing(40),
      create(50),
      got(60, undefined),
      put(70, 'v2'),
    ];
    expect(problems([...history, got(80, 'v2', 70)])).to.deep.equal([]);
  });

  it('checkers: NS-1 finds a value of another namespace', () => {
    const other = put(15, 'v9', { key: 'b:k' });
    expect(problems([...begin, other, got(20, 'v9', 15)])).to.deep.equal([foreign]);
  });

  it('checkers: NS-1 finds what comes back under a name that was created again', () => {
    expect(problems([...begin, drop(30), create(50), got(60, 'v1', 10)])).to.deep.equal([again]);
  });

  it('checkers: NS-1 finds what can be read after the drop, and not what a creation explains', () => {
    const late = put(25, 'v3', { outcome: 'info', returnedMs: undefined, etag: undefined });
    const read = got(40, 'v3', 28);
    expect(problems([...begin, late, drop(30), read])).to.deep.equal([found]);
    const made = create(36, { outcome: 'info', returnedMs: undefined });
    expect(problems([...begin, late, drop(30), made, read])).to.deep.equal([]);
  });

  it('checkers: NS-1 finds what is lost, unless a drop may have come or copies were destroyed', () => {
    expect(problems([...begin, got(60, undefined)])).to.deep.equal([lost]);
    expect(problems([...begin, put(30, 'v2'), got(60, 'v1', 10)])).to.deep.equal([lost]);
    expect(problems([...begin, missing(60)])).to.deep.equal([gone]);
    expect(problems([...begin, missing(60)], true)).to.deep.equal([]);
    const open = drop(30, { outcome: 'info', returnedMs: undefined });
    expect(problems([...begin, open, got(60, undefined)])).to.deep.equal([]);
    expect(problems([...begin, drop(30, { outcome: 'fail' }), missing(60)])).to.deep.equal([gone]);
  });
});
