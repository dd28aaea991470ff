// When the sockets of an edge write: once for each time that they were added, after what arrived at
// the same time, or at the end of the callback that answers.

import { expect } from 'chai';
import { TurnWrites } from '../../transport/turn-writes.ts';

const nextImmediate = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));
const endOfCallback = (): Promise<void> => new Promise((resolve) => process.nextTick(resolve));

describe('turn writes', () => {
  let flushed: string[];
  let writes: TurnWrites<string>;

  beforeEach(() => {
    flushed = [];
    writes = new TurnWrites((name) => flushed.push(name));
  });

  it('wait for what else is read in this turn', async () => {
    writes.add('a', true);
    await endOfCallback();
    expect(flushed, 'while others may be read').to.deep.equal([]);
    writes.add('b', true);
    await nextImmediate();
    expect(flushed).to.deep.equal(['a', 'b']);
    await nextImmediate();
    expect(flushed, 'once').to.deep.equal(['a', 'b']);
  });

  it('of answers that come by themselves leave when their callback ends, with those that waited', async () => {
    writes.add('reading', true);
    writes.add('a', false);
    writes.add('b', false);
    expect(flushed, 'within the callback').to.deep.equal([]);
    await endOfCallback();
    expect(flushed).to.deep.equal(['reading', 'a', 'b']);
    await nextImmediate();
    expect(flushed, 'once').to.deep.equal(['reading', 'a', 'b']);
  });

  it('go on after either', async () => {
    writes.add('a', false);
    await endOfCallback();
    writes.add('b', true);
    await nextImmediate();
    writes.add('c', false);
    await endOfCallback();
    writes.add('d', true);
    await nextImmediate();
    expect(flushed).to.deep.equal(['a', 'b', 'c', 'd']);
  });

  it('that are asked for while others are flushed are not lost', async () => {
    const echo: TurnWrites<number> = new TurnWrites((left) => {
      flushed.push(String(left));
      if (left > 0) echo.add(left - 1, left % 2 === 0);
    });
    echo.add(2, true);
    for (let turn = 0; turn < 4; turn += 1) await nextImmediate();
    expect(flushed).to.deep.equal(['2', '1', '0']);
  });
});
