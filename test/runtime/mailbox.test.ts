// Mailboxes: order within a lane, precedence between lanes, bounds.

import { expect } from 'chai';
import fc from 'fast-check';
import type { Envelope } from '../../runtime/envelope.ts';
import { Mailbox, Ring } from '../../runtime/mailbox.ts';

const letter = (name: string): Envelope => ({ name }) as Envelope;

function emptied(mailbox: Mailbox): string {
  let names = '';
  for (let next = mailbox.shift(); next !== undefined; next = mailbox.shift()) names += next.name;
  return names;
}

describe('mailbox', () => {
  it('mailbox: own goes before control, control before user, user before background', () => {
    const mailbox = new Mailbox(4);
    mailbox.push(letter('b'), 'background');
    mailbox.push(letter('u'), 'user');
    mailbox.push(letter('c'), 'control');
    mailbox.pushOwn(letter('o'));
    expect(mailbox.length).to.equal(4);
    expect(emptied(mailbox)).to.equal('ocub');
  });

  it('mailbox: background gets one turn in eight, and what is left over', () => {
    const mailbox = new Mailbox(100);
    for (let i = 0; i < 16; i += 1) mailbox.push(letter('u'), 'user');
    for (let i = 0; i < 4; i += 1) mailbox.push(letter('b'), 'background');
    expect(emptied(mailbox)).to.equal('uuuuuuubuuuuuuubuubb');
  });

  it('mailbox: user and background are bounded each by itself (capacity=2)', () => {
    const mailbox = new Mailbox(2);
    const push = (lane: 'user' | 'background' | 'control'): boolean =>
      mailbox.push(letter(lane), lane);
    expect([push('user'), push('user'), push('user')]).to.deep.equal([true, true, false]);
    expect([push('background'), push('background'), push('background')]).to.deep.equal([
      true,
      true,
      false,
    ]);
    expect([push('control'), push('control'), push('control')]).to.deep.equal([true, true, true]);
  });

  it('mailbox: control and own are bounded too (capacity=65536)', () => {
    const mailbox = new Mailbox(1);
    let taken = 0;
    while (mailbox.push(letter('c'), 'control')) taken += 1;
    while (mailbox.pushOwn(letter('o'))) taken += 1;
    expect(taken).to.equal(2 * 65_536);
  });

  it('mailbox: only own messages die with the actor', () => {
    const mailbox = new Mailbox(4);
    mailbox.pushOwn(letter('o'));
    mailbox.push(letter('c'), 'control');
    mailbox.push(letter('u'), 'user');
    mailbox.clearOwn();
    expect(mailbox.shiftOwn()).to.equal(undefined);
    expect(emptied(mailbox)).to.equal('cu');
  });

  it('mailbox: a ring is a queue, however it grows (model: array)', () => {
    const commands = fc.array(fc.oneof(fc.integer(), fc.constant('shift')), { maxLength: 200 });
    fc.assert(
      fc.property(commands, (list) => {
        const ring = new Ring<number>();
        const model: number[] = [];
        for (const command of list) {
          if (typeof command === 'number') {
            ring.push(command);
            model.push(command);
          } else expect(ring.shift()).to.equal(model.shift());
          expect(ring.length).to.equal(model.length);
        }
        while (model.length > 0) expect(ring.shift()).to.equal(model.shift());
        expect(ring.shift()).to.equal(undefined);
      }),
    );
  });
});
