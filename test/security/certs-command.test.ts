// `kvd certs`: what it makes, what it never overwrites, and that it signs with no exposed key.

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { expect } from 'chai';
import sinon from 'sinon';
import { certsCommand } from '../../cli/certs/command.ts';
import type { KvError } from '../../runtime/errors.ts';

describe('certs command', () => {
  let dir: string;

  beforeEach(() => {
    dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kvd-certs-'));
  });

  afterEach(() => fs.rmSync(dir, { recursive: true }));

  /** What it prints, or the detail of its refusal. */
  async function certs(...args: string[]): Promise<string> {
    const print = sinon.stub(process.stdout, 'write').returns(true);
    try {
      await certsCommand().parseAsync([...args, '--dir', dir], { from: 'user' });
      return print.args.map(([text]) => String(text)).join('');
    } catch (error) {
      return String((error as KvError).fields['detail']);
    } finally {
      print.restore();
    }
  }

  const modeOf = (name: string): number => fs.statSync(path.join(dir, name)).mode & 0o777;

  it('certs command: an authority and what it issues; keys are for their owner', async () => {
    expect(await certs('init')).to.match(/^wrote .*ca\.key\nwrote .*ca\.crt\n$/);
    expect(await certs('issue', '--node-id', 'n1', '--host', 'localhost')).to.match(
      /n1\.key\n.*n1\.crt\n$/,
    );
    expect(await certs('issue', '--client', 'ada')).to.match(/client-ada\.crt\n$/);
    for (const key of ['ca.key', 'n1.key', 'client-ada.key']) expect(modeOf(key)).to.equal(0o600);
    expect(modeOf('ca.crt')).to.equal(0o644);
  });

  it('certs command: nothing is overwritten', async () => {
    await certs('init');
    const before = fs.readFileSync(path.join(dir, 'ca.key'), 'utf8');
    expect(await certs('init')).to.match(/ca\.key is there already$/);
    expect(fs.readFileSync(path.join(dir, 'ca.key'), 'utf8')).to.equal(before);
  });

  it('certs command: without an authority it says how one is made', async () => {
    expect(await certs('issue', '--client', 'ada')).to.match(
      /make the authority first with kvd certs init$/,
    );
  });

  it('certs command: a key of the authority that others or its group may read signs nothing', async () => {
    await certs('init');
    for (const mode of [0o640, 0o604]) {
      fs.chmodSync(path.join(dir, 'ca.key'), mode);
      expect(await certs('issue', '--client', 'ada')).to.match(
        /ca\.key may be read or written by others: chmod 600/,
      );
      expect(fs.readdirSync(dir)).to.have.members(['ca.crt', 'ca.key']);
    }
    fs.chmodSync(path.join(dir, 'ca.key'), 0o400);
    expect(await certs('issue', '--client', 'ada')).to.match(/client-ada\.crt\n$/);
  });
});
