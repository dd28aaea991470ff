// The order in which memtables become tables, and who is answered when.

import { expect } from 'chai';
import { FlushQueue } from '../../actors/storage/flush-queue.ts';
import type { FrozenTable } from '../../actors/storage/protocol.ts';
import { failure } from '../../runtime/errors.ts';

const tableOf = (arena: number): FrozenTable => ({
  ...{ arena, records: 1, bytes: 100, throughLsn: arena },
});

/** A queue, and who has been answered, in turn. */
function queueUnderTest(frozenMax = 1) {
  const queue = new FlushQueue(frozenMax);
  const answers: string[] = [];
  const wish = (name: string): void =>
    queue.wish({
      done: () => answers.push(name),
      failed: ({ code }) => answers.push(`${name} ${code}`),
    });
  return { queue, answers, wish };
}

describe('flush queue', () => {
  it('flush queue: who comes while a table is written waits for the next one', () => {
    const { queue, answers, wish } = queueUnderTest();
    wish('first');
    queue.freezeBegins(10);
    wish('while it is frozen');
    expect(queue.mayFreeze).to.equal(false);
    expect(queue.frozen(tableOf(1))).to.equal(0);
    expect(queue.next()).to.include({ loggedBytes: 10 });
    expect(queue.next()).to.equal(undefined);
    wish('while it is written');
    queue.written();
    expect(answers).to.deep.equal(['first']);
    expect([queue.isWished, queue.mayFreeze, queue.isEmpty]).to.deep.equal([true, true, true]);
    queue.freezeBegins(20);
    queue.frozen(tableOf(2));
    expect(queue.next()?.table.arena).to.equal(2);
    queue.written();
    expect(answers).to.deep.equal(['first', 'while it is frozen', 'while it is written']);
  });

  it('flush queue: where there is nothing to freeze who waits is answered, and the bytes come back', () => {
    const { queue, answers, wish } = queueUnderTest();
    wish('only');
    queue.freezeBegins(30);
    expect(queue.frozen(undefined)).to.equal(30);
    expect(answers).to.deep.equal(['only']);
    expect(queue.isWished).to.equal(false);
  });

  it('flush queue: a table whose flush failed stays first, and who waits is told once', () => {
    const { queue, answers, wish } = queueUnderTest();
    wish('first');
    queue.freezeBegins(10);
    queue.frozen(tableOf(1));
    queue.next();
    wish('second');
    queue.failed(failure('DISK_FULL'));
    expect(answers).to.deep.equal(['first DISK_FULL', 'second DISK_FULL']);
    expect(queue.next()).to.equal(undefined);
    wish('third');
    queue.retry();
    expect(queue.next()).to.deep.include({ table: tableOf(1), loggedBytes: undefined });
    queue.written();
    expect(answers.length).to.equal(2);
    expect(queue.isWished).to.equal(true);
  });

  it('flush queue: with room for two the next one is frozen while one is written, and waits its turn', () => {
    const { queue, answers, wish } = queueUnderTest(2);
    for (const arena of [1, 2]) {
      expect(queue.mayFreeze).to.equal(true);
      wish(`before ${arena}`);
      queue.freezeBegins(arena);
      queue.frozen(tableOf(arena));
      queue.next();
    }
    expect(queue.mayFreeze).to.equal(false);
    queue.written();
    expect(answers).to.deep.equal(['before 1']);
    expect(queue.mayFreeze).to.equal(true);
    // Nothing came since: what it waits for is the second table.
    wish('after both');
    queue.freezeBegins(0);
    queue.frozen(undefined);
    expect(answers.length).to.equal(1);
    expect(queue.next()).to.include({ loggedBytes: 2 });
    queue.written();
    expect(answers.slice(1)).to.deep.equal(['before 2', 'after both']);
  });

  it('flush queue: a flush that failed fails all that wait, and the order stays', () => {
    const { queue, answers, wish } = queueUnderTest(2);
    for (const arena of [1, 2]) {
      wish(String(arena));
      queue.freezeBegins(arena);
      queue.frozen(tableOf(arena));
    }
    queue.next();
    queue.failed(failure('DISK_FULL'));
    expect(answers).to.have.members(['1 DISK_FULL', '2 DISK_FULL']);
    queue.retry();
    expect(queue.next()).to.include({ loggedBytes: undefined });
    queue.written();
    expect(queue.next()).to.include({ loggedBytes: 2 });
  });

  it('flush queue: what a start has found is written in its order', () => {
    const { queue } = queueUnderTest();
    queue.begin([tableOf(3), tableOf(1)]);
    expect(queue.mayFreeze).to.equal(false);
    expect(queue.next()?.table.arena).to.equal(3);
    queue.written();
    expect(queue.next()?.table.arena).to.equal(1);
    queue.written();
    expect(queue.isEmpty).to.equal(true);
  });
});
