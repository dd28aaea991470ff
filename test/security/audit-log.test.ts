// The audit log as an actor on a disk in memory: its lines, rotation and bounds, and what it makes of
// a line that a crash cut off.

import { expect } from 'chai';
import { auditor, type AuditorOptions } from '../../actors/security/auditor.actor.ts';
import { auditLine, auditNumbers, auditPath } from '../../actors/security/audit-files.ts';
import { type AuditEntry, Auditor } from '../../actors/security/protocol.ts';
import { refTo } from '../../runtime/actor.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';
import { Kit } from '../kit.ts';
import { MemoryDisk } from '../kit-disk.ts';

const entry = (act: string, outcome = 'done'): AuditEntry => ({
  user: 'ada',
  address: '10.0.0.1',
  act,
  target: 'a',
  outcome,
});

async function started(disk: MemoryDisk, options: AuditorOptions = {}): Promise<Kit> {
  const kit = new Kit([Auditor], { disk });
  const spawned = kit.spawn(auditor, options, { mailboxCapacity: 2_000 });
  await kit.host.settle();
  await spawned;
  return kit;
}

async function write(kit: Kit, ...entries: readonly AuditEntry[]): Promise<void> {
  for (const each of entries) kit.kernel.tell(refTo(Auditor, 'n1'), 'happened', each);
  await kit.host.settle();
}

const textOf = (disk: MemoryDisk, number: number): string =>
  utf8.decode(disk.read(auditPath(number)) ?? new Uint8Array(0));
const actsOf = (text: string): string[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => (JSON.parse(line) as { act: string }).act);

describe('security: the audit log', () => {
  it('audit: a line says when, where, who, from where, what, about what and how it ended', async () => {
    const disk = new MemoryDisk();
    await write(await started(disk), entry('user-create'));
    expect(JSON.parse(textOf(disk, 1))).to.deep.equal({
      time_ms: 1000,
      node: 'n1',
      ...entry('user-create'),
    });
  });

  it('audit: it goes on where it was, and a line that was cut off stays one of its own', async () => {
    const disk = new MemoryDisk();
    await write(await started(disk), entry('one'));
    const whole = textOf(disk, 1);
    disk.put(auditPath(1), utf8.encode(`${whole}{"time_ms":5,"no`));
    await write(await started(disk), entry('two'));
    const lines = textOf(disk, 1).split('\n');
    expect(actsOf(lines[0] ?? '')).to.deep.equal(['one']);
    expect(lines[1]).to.equal('{"time_ms":5,"no');
    expect(actsOf(lines[2] ?? '')).to.deep.equal(['two']);
  });

  it('audit: a full file is followed by the next one, and the oldest go (files=3)', async () => {
    const disk = new MemoryDisk();
    const kit = await started(disk, { fileBytes: 300, filesMax: 3 });
    for (let i = 0; i < 20; i += 1) await write(kit, entry(`act-${i}`));
    const numbers = auditNumbers(disk.list('audit'));
    expect(numbers).to.have.length(3);
    const kept = numbers.flatMap((number) => actsOf(textOf(disk, number)));
    expect(kept.at(-1)).to.equal('act-19');
    expect(kept).to.deep.equal(kept.map((_, i) => `act-${20 - kept.length + i}`));
    for (const number of numbers) expect(textOf(disk, number).length).to.be.at.most(300);
  });

  it('audit: refusals without end are left out and counted, what is done never is', async () => {
    const disk = new MemoryDisk();
    const kit = await started(disk);
    await write(kit, ...Array.from({ length: 1_000 }, () => entry('get', 'UNAUTHORIZED')));
    await write(kit, entry('user-delete'));
    const lines = textOf(disk, 1).trim().split('\n');
    expect(lines).to.have.length(201);
    expect(JSON.parse(lines.at(-1) ?? '')).to.include({ act: 'user-delete', left_out: 800 });
    await kit.host.advance(1_000);
    await write(kit, entry('get', 'FORBIDDEN'));
    expect(textOf(disk, 1).trim().split('\n')).to.have.length(202);
  });

  it('audit: a disk that takes nothing does not end the node', async () => {
    const disk = new MemoryDisk();
    const kit = await started(disk);
    disk.beforeWrite = () => {
      throw new KvError('DISK_FULL');
    };
    await write(kit, entry('one'));
    disk.beforeWrite = () => undefined;
    await write(kit, entry('two'));
    expect(actsOf(textOf(disk, 1))).to.deep.equal(['two']);
    expect(kit.host.stops).to.deep.equal([]);
    expect(kit.host.logged.map(({ event }) => event)).to.include('audit.not-written');
  });

  it('audit: a hostile name is one line of bounded length', () => {
    const line = auditLine(
      { ...entry('get'), target: `x\n{"user":"root"}\u2028${'y'.repeat(5_000)}` },
      { timeMs: 1.7, node: 'n1', leftOut: 0 },
    );
    expect(line.indexOf('\n')).to.equal(line.length - 1);
    expect(line.length).to.be.below(700);
  });
});
