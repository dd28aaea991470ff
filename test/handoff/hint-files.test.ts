// Files of hints: what is written is read back, damage costs the damaged hints alone, and a file
// goes only when it was done.

import { expect } from 'chai';
import fc from 'fast-check';
import { decodeHints, encodeHint, type Hint } from '../../actors/handoff/hint-format.ts';
import { HintFiles, type HintSize, parseHintFile } from '../../actors/handoff/hint-files.ts';
import { concatBytes } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';
import { MemoryDisk } from '../kit-disk.ts';
import { hexOf, makeRecord } from '../kit-replication.ts';

const hintOf = (n: number) => ({
  createdMs: 1_000 + n,
  isCounted: n % 2 === 1,
  record: makeRecord(`key-${n}`),
});
const shown = (hints: readonly Hint[]): string[] =>
  hints.map(({ createdMs, isCounted, record }) => `${createdMs} ${isCounted} ${hexOf(record)}`);
const three = [hintOf(1), hintOf(2), hintOf(3)];
const file = (): Uint8Array => concatBytes(three.map(encodeHint));

describe('hint-format', () => {
  it('hint-format: what was written is read back in order', () => {
    const { hints, damaged } = decodeHints(file());
    expect(shown(hints)).to.deep.equal(shown(three));
    expect(damaged).to.equal(0);
  });

  it('hint-format: cut anywhere, the whole hints before the cut are read (HH-9)', () => {
    const bytes = file();
    const frame = encodeHint(hintOf(1)).length;
    for (let length = 0; length < bytes.length; length += 1) {
      const { hints, damaged } = decodeHints(bytes.subarray(0, length));
      expect(hints.length, `${length} bytes`).to.equal(Math.floor(length / frame));
      expect(damaged, `${length} bytes`).to.equal(length % frame === 0 ? 0 : 1);
    }
  });

  it('hint-format: a changed bit never gives a hint that was not written', () => {
    const written = new Set(shown(three));
    const { length } = file();
    fc.assert(
      fc.property(fc.nat(length * 8 - 1), (bit) => {
        const bytes = file();
        bytes[bit >> 3] = (bytes[bit >> 3] as number) ^ (1 << (bit & 7));
        const { hints, damaged } = decodeHints(bytes);
        expect(shown(hints).every((hint) => written.has(hint))).to.equal(true);
        expect(damaged).to.be.above(0);
      }),
      { numRuns: 500 },
    );
  });

  it('hint-format: damage in the middle costs one hint', () => {
    const bytes = file();
    const frame = encodeHint(hintOf(1)).length;
    bytes[frame + 40] = (bytes[frame + 40] as number) ^ 1;
    const { hints, damaged } = decodeHints(bytes);
    expect(shown(hints)).to.deep.equal(shown([hintOf(1), hintOf(3)]));
    expect(damaged).to.equal(1);
  });
});

describe('hint-files', () => {
  const none = (): HintSize => ({ hints: 0, bytes: 0 });
  const start = (): { disk: MemoryDisk; files: HintFiles } => {
    const disk = new MemoryDisk();
    return { disk, files: new HintFiles(disk, 'hints', 'n2', none()) };
  };
  const reopened = (disk: MemoryDisk): HintFiles => {
    const files = new HintFiles(disk, 'hints', 'n2', none());
    for (const name of disk.list('hints')) {
      const found = parseHintFile(name);
      if (found !== undefined) files.found(found.number);
    }
    return files;
  };

  it('hint-files: hints are read oldest first, also by the next run, and go when they are done', () => {
    const { disk, files } = start();
    for (const hint of three) files.append(hint);
    expect(files.hints).to.equal(3);
    expect(files.oldestMs).to.equal(1_001);
    const again = reopened(disk);
    expect(again.hints).to.equal(3);
    expect(shown(again.readFirst())).to.deep.equal(shown(three));
    expect(again.isEmpty, 'read is not done').to.equal(false);
    again.removeFirst();
    expect(again.isEmpty).to.equal(true);
    expect(disk.list('hints')).to.deep.equal([]);
  });

  it('hint-files: what is written while the first file is read goes to another one', () => {
    const { files } = start();
    files.append(hintOf(1));
    expect(shown(files.readFirst())).to.deep.equal(shown([hintOf(1)]));
    files.append(hintOf(2));
    files.removeFirst();
    expect(shown(files.readFirst())).to.deep.equal(shown([hintOf(2)]));
  });

  it('hint-files: a file is closed at 1 MiB', () => {
    const { disk, files } = start();
    const record = makeRecord('key', { value: 'x'.repeat(300_000) });
    for (let n = 0; n < 5; n += 1) files.append({ createdMs: n, isCounted: false, record });
    expect(disk.list('hints').length).to.equal(2);
    expect(files.readFirst().length).to.equal(4);
  });

  it('hint-files: a file that is being synced is closed after the sync', () => {
    const { files } = start();
    files.append(hintOf(1));
    const open = files.beginSync();
    if (open === undefined) throw new Error('no open file');
    let closes = 0;
    const { file } = open;
    Object.assign(file, { close: () => (closes += 1) });
    files.readFirst();
    expect(closes, 'still open').to.equal(0);
    files.endSync(open, false);
    expect(closes).to.equal(1);
  });

  it('hint-files: the total over all nodes follows what is written, found and done', () => {
    const disk = new MemoryDisk();
    const total = none();
    const [first, second] = ['n2', 'n3'].map((node) => new HintFiles(disk, 'hints', node, total));
    if (first === undefined || second === undefined) throw new Error('no files');
    const check = (hints: number): void => {
      expect(total.hints).to.equal(hints);
      expect(first.hints + second.hints).to.equal(hints);
      expect(first.bytes + second.bytes).to.equal(total.bytes);
    };
    for (const hint of three) first.append(hint);
    second.append(hintOf(4));
    check(4);
    expect(total.bytes).to.equal(
      [...three, hintOf(4)].map(encodeHint).flatMap((x) => [...x]).length,
    );
    disk.beforeWrite = () => {
      throw new KvError('DISK_FULL', {});
    };
    expect(() => first.append(hintOf(5))).to.throw(KvError);
    check(4);
    disk.beforeWrite = () => undefined;
    first.append(hintOf(5));
    check(5);
    first.readFirst();
    first.removeFirst();
    check(2);
    first.readFirst();
    first.removeFirst();
    check(1);
    second.readFirst();
    second.removeFirst();
    second.removeFirst();
    expect(total).to.deep.equal(none());
  });

  it('hint-files: names of other files are not taken', () => {
    expect(parseHintFile('n1.0000000007.hints')).to.deep.equal({ node: 'n1', number: 7 });
    for (const name of [
      'n1.closed',
      'n1.7.hints',
      'n1.0000000007.hints.tmp',
      '../x.0000000007.hints',
    ])
      expect(parseHintFile(name), name).to.equal(undefined);
  });
});
