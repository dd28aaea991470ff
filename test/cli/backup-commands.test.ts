// kvctl snapshot, backup and restore without a cluster: what they send, print and refuse.

import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { encodeSnapshot } from '../../actors/storage/snapshot-format.ts';
import { ClientError } from '../../cli/client/http-exchange.ts';
import { removeEverywhere } from '../../cli/commands/snapshots.ts';
import { lockDirectory } from '../../runtime/host/directory-lock.ts';
import { kvctl, ok, problem, startFake } from '../kit-kvctl.ts';
import { kvctlPath } from '../process/run-program.ts';

const manifest = encodeSnapshot({
  name: 'a',
  createdMs: 5,
  clusterName: 'c',
  node: 'n1',
  incarnation: 7,
  shape: { members: ['n1'], replicationFactor: 1, virtualNodes: 4, shards: 1 },
  shards: [{ shard: 0, flushedThrough: 0, tables: [] }],
});
const row = { name: 'a', created_ms: 0, tables: 2, records: 30, bytes: 400, max_hlc: 5 };

describe('kvctl snapshot, backup, restore', () => {
  let scratch = '';
  before(() => {
    scratch = mkdtempSync(join(tmpdir(), 'kvd-kvctl-'));
  });
  after(() => rmSync(scratch, { recursive: true }));

  it('kvctl: snapshot create prints each node, and ends with 1 where one refused', async () => {
    const nodes = [
      { node: 'n1', ...row },
      { node: 'n2', error: { code: 'DISK_FULL', detail: 'no space' } },
    ];
    const fake = await startFake(() => ok({ name: 'a', complete: false, nodes }));
    try {
      const args = ['snapshot', 'create', 'a', '--nodes', 'n1,n2', '-o', 'raw'];
      const result = await kvctl([...args, '--endpoint', fake.url]);
      expect(result.code).to.equal(1);
      expect(result.text).to.equal('n1\ta\t1970-01-01T00:00:00.000Z\t2\t30\t400\n');
      expect(result.stderr).to.equal('kvctl: n2: no space\n');
      const [sent] = fake.seen;
      expect([sent?.method, sent?.url]).to.deep.equal(['POST', '/api/v1/admin/snapshots']);
      expect(sent?.body).to.equal('{"name":"a","nodes":["n1","n2"]}');
    } finally {
      await fake.close();
    }
  });

  it('kvctl: snapshot list and delete', async () => {
    const listed = {
      complete: true,
      nodes: [{ node: 'n1', snapshots: [row, { ...row, name: 'b' }] }],
    };
    const fake = await startFake(({ method }) =>
      method === 'GET' ? ok(listed) : problem(404, 'NOT_FOUND'),
    );
    try {
      const list = await kvctl(['snapshot', 'list', '-o', 'json', '--endpoint', fake.url]);
      expect(JSON.parse(list.text)).to.deep.equal(listed);
      const gone = await kvctl([
        'snapshot',
        'delete',
        'x',
        '--nodes',
        'n1',
        '--endpoint',
        fake.url,
      ]);
      expect(gone.code).to.equal(4);
      expect(fake.seen.at(-1)?.url).to.equal('/api/v1/admin/snapshots/x?nodes=n1');
    } finally {
      await fake.close();
    }
  });

  it('kvctl: backup refuses where a node cannot be found, and where one makes no snapshot', async () => {
    const ring = (address: string | null): unknown => ({
      nodes: [
        { node_id: 'n1', address: '127.0.0.1:1' },
        { node_id: 'n2', address },
      ],
    });
    let address: string | null = null;
    const failed = {
      complete: false,
      nodes: [{ node: 'n2', error: { code: 'X', detail: 'why' } }],
    };
    const fake = await startFake(({ url, method }) =>
      url === '/api/v1/ring'
        ? ok(ring(address))
        : method === 'POST'
          ? ok(failed)
          : ok({ nodes: [] }),
    );
    try {
      const backup = (...more: string[]): ReturnType<typeof kvctl> =>
        kvctl(['backup', join(scratch, 'b'), '--endpoint', fake.url, ...more]);
      const unknown = await backup();
      expect(unknown.code).to.equal(3);
      expect(unknown.stderr).to.contain('nobody knows where n2 listens');
      expect(await backup('--nodes', 'n7')).to.include({ code: 2 });
      address = '127.0.0.1:2';
      const refused = await backup();
      expect(refused.code).to.equal(1);
      expect(refused.stderr).to.contain('n2: why');
      // What the others made is deleted again.
      expect(fake.seen.at(-1)?.method).to.equal('DELETE');
    } finally {
      await fake.close();
    }
  });

  it('kvctl: a directory takes one backup at a time', async () => {
    const fake = await startFake(() => problem(404, 'NOT_FOUND'));
    const place = join(scratch, 'taken');
    const lock = await lockDirectory(place);
    try {
      const args = ['backup', place, '--keep', '1', '--endpoint', fake.url];
      const second = await kvctl(args);
      expect(second.code).to.equal(1);
      expect(second.stderr).to.contain(
        `the backup directory ${place} is in use by process ${process.pid}`,
      );
      expect(fake.seen).to.deep.equal([]);
      await lock.release();
      await kvctl(args);
      expect(fake.seen.length).to.equal(1);
      // Free again, though it failed.
      await (await lockDirectory(place)).release();
    } finally {
      await lock.release();
      await fake.close();
    }
  });

  it('kvctl: each request of a backup takes as long as --timeout says', async () => {
    const fake = await startFake(({ url, method }) => {
      if (method === 'POST') return ok({ complete: true, nodes: [] });
      return url === '/api/v1/ring'
        ? ok({ nodes: [{ node_id: 'n1', address: new URL(fake.url).host }] })
        : problem(404, 'NOT_FOUND');
    });
    try {
      const place = join(scratch, 'timed');
      const result = await kvctl(['backup', place, '--timeout', '777', '--endpoint', fake.url]);
      expect(result.code).to.equal(4);
      expect(fake.seen.map(({ method, url }) => `${method} ${url.slice(0, 31)}`)).to.deep.equal([
        'GET /api/v1/ring',
        'GET /api/v1/ring',
        'POST /api/v1/admin/snapshots',
        'GET /api/v1/admin/snapshots/backup-',
        'DELETE /api/v1/admin/snapshots/backup-',
      ]);
      for (const { headers } of fake.seen)
        expect(Number(headers['x-deadline-ms'])).to.be.within(1, 777);
    } finally {
      await fake.close();
    }
  });

  it('kvctl: a backup that is made says which nodes still hold its snapshot, and ends with 1', async () => {
    const error = { code: 'DISK_FAILED', detail: 'the disk refused' };
    const nodes = [
      { node: 'n1', deleted: true },
      { node: 'n2', error },
    ];
    const fake = await startFake(({ url, method }) => {
      if (method === 'POST') return ok({ complete: true, nodes: [] });
      if (method === 'DELETE') return ok({ complete: false, nodes });
      if (url !== '/api/v1/ring') return ok(manifest);
      return ok({ nodes: [{ node_id: 'n1', address: new URL(fake.url).host }] });
    });
    try {
      const place = join(scratch, 'held');
      const result = await kvctl(['backup', place, '--endpoint', fake.url]);
      expect(result.text).to.match(/^backup \S+: 0 tables/);
      expect(result.stderr).to.match(
        /kvctl: snapshot (backup-\S+) may still be on n2 \(the disk refused\): kvctl snapshot delete \1 --nodes n2\n$/,
      );
      expect(result.code).to.equal(1);
      const list = await kvctl(['restore', place, '--list']);
      expect(list.code, 'the backup counts').to.equal(0);
    } finally {
      await fake.close();
    }
  });

  it('kvctl: a directory that cannot be made costs no snapshot', async () => {
    const fake = await startFake(({ url }) =>
      url === '/api/v1/ring'
        ? ok({ nodes: [{ node_id: 'n1', address: '127.0.0.1:1' }] })
        : ok({ complete: true, nodes: [] }),
    );
    try {
      const file = join(scratch, 'file');
      writeFileSync(file, '');
      const result = await kvctl(['backup', join(file, 'b'), '--endpoint', fake.url]);
      expect([result.code, result.text]).to.deep.equal([1, '']);
      expect(fake.seen.every(({ url }) => url === '/api/v1/ring')).to.equal(true);
    } finally {
      await fake.close();
    }
  });

  for (const [end, words] of [
    ['SIGINT', 'ended by SIGINT'],
    ['SIGTERM', 'ended by SIGTERM'],
    ['reader', 'nobody reads the output any more'],
  ] as const)
    it(`kvctl: a backup that is ended early (${end}) deletes its snapshot, and ends with 1`, async () => {
      // A stream that nobody reads is noticed when something is written.
      const fake = await startFake(({ url, method }) => {
        if (url === '/api/v1/ring')
          return ok({ nodes: [{ node_id: 'n1', address: new URL(fake.url).host }] });
        if (method !== 'GET') return ok({ complete: true, nodes: [] });
        if (end === 'reader') child.stdout.destroy();
        else child.kill(end);
        return end === 'reader' ? ok(manifest) : 'never';
      });
      const child = spawn(process.execPath, [kvctlPath, 'backup', '-', '--endpoint', fake.url]);
      try {
        let stderr = '';
        child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
        const code = await new Promise((resolve) => {
          child.once('close', resolve);
        });
        expect([code, stderr]).to.deep.equal([1, `kvctl: no backup was made: ${words}\n`]);
        expect(fake.seen.map(({ method }) => method).slice(-2)).to.deep.equal(['GET', 'DELETE']);
      } finally {
        await fake.close();
      }
    });

  describe('the snapshot of a backup', () => {
    const conflict = { code: 'CONFLICT', detail: 'busy' };
    const failed = { code: 'DISK_FAILED', detail: 'broken' };
    interface Removal {
      readonly held: Readonly<Record<string, string>>;
      readonly asked: readonly (readonly [number, string])[];
    }
    /** Nodes that refuse a deletion with `error` before `untilMs`; a lone one answers by itself. */
    const removed = async (
      nodes: Readonly<Record<string, readonly [number, { code: string; detail: string }]>>,
    ): Promise<Removal> => {
      let nowMs = 0;
      const asked: (readonly [number, string])[] = [];
      const held = await removeEverywhere(Object.keys(nodes), {
        remove: (left) => {
          asked.push([nowMs, left.join()]);
          const rows = left.map((node) => {
            const [untilMs, error] = nodes[node] ?? [0, conflict];
            return nowMs < untilMs ? { node, error } : { node };
          });
          const [{ error } = {}] = rows;
          if (rows.length === 1 && error !== undefined)
            return Promise.reject(new ClientError(error.code, 409, error.detail, false));
          return Promise.resolve({ complete: false, nodes: rows });
        },
        nowMs: () => nowMs,
        sleep: (delayMs) => Promise.resolve((nowMs += delayMs)),
        timeoutMs: 10_000,
      });
      return { held: Object.fromEntries(held), asked };
    };

    it('kvctl: it is deleted again on nodes that are still making it, until they have', async () => {
      const { held, asked } = await removed({
        n1: [0, conflict],
        n2: [700, conflict],
        n3: [1_700, conflict],
      });
      expect(held).to.deep.equal({});
      expect(asked).to.deep.equal([
        [0, 'n1,n2,n3'],
        [250, 'n2,n3'],
        [750, 'n2,n3'],
        [1_750, 'n3'],
      ]);
    });

    it('kvctl: after a while it is left there, and at once where trying again is no use', async () => {
      const { held, asked } = await removed({ n1: [Infinity, conflict], n2: [Infinity, failed] });
      expect(held).to.deep.equal({ n1: 'CONFLICT: busy', n2: 'broken' });
      expect(asked.slice(1).every(([, nodes]) => nodes === 'n1')).to.equal(true);
      expect(asked.at(-1)?.[0]).to.equal(7_750);
      expect((await removed({ n1: [Infinity, failed] })).asked.length).to.equal(1);
    });
  });

  for (const other of ['--parallel 2', '--verify', '--keep 2'])
    it(`kvctl: backup to a stream refuses ${other}, for which it means nothing`, async () => {
      const result = await kvctl(['backup', '-', ...other.split(' ')]);
      expect([result.code, result.text]).to.deep.equal([2, '']);
      const [flag = ''] = other.split(' ');
      expect(result.stderr).to.equal(
        `kvctl: -: expected only --snapshot, --nodes with it, found ${flag}\n`,
      );
    });

  const place = (): string => scratch;
  const cases: readonly (readonly [string, number, string, () => readonly string[]])[] = [
    ['a place that is not there', 4, 'not there', () => [join(scratch, 'none'), '--list']],
    ['no data directory', 2, '--data-dir: expected', () => [place()]],
    ['a stream to list', 2, 'unpack the stream first', () => ['-', '--list']],
    [
      'a directory without backups',
      4,
      'no complete backup',
      () => [place(), '--data-dir', join(scratch, 'd')],
    ],
    [
      'a time without an archive',
      2,
      '--until needs --wal-archive',
      () => [place(), '--data-dir', join(scratch, 'd'), '--until', 'latest'],
    ],
    [
      'a time without a zone',
      2,
      '--until: expected a time with its zone',
      () => [
        place(),
        '--data-dir',
        join(scratch, 'd'),
        '--wal-archive',
        scratch,
        '--until',
        '2026-01-31T12:00:00',
      ],
    ],
    ['a stream that is no tar', 1, 'kvctl:', () => ['-', '--data-dir', join(scratch, 'd')]],
  ];
  for (const [what, code, words, args] of cases)
    it(`kvctl: restore refuses ${what} with ${code}`, async () => {
      const result = await kvctl(['restore', ...args()], 'x'.repeat(2000));
      expect(result.stderr).to.contain(words);
      expect(result.code).to.equal(code);
    });

  for (const [way, ...others] of [
    ['--list', '--check', '--into-cluster', '--data-dir d', '--backup b', '--until latest'],
    ['--check', '--into-cluster', '--data-dir d', '--node n1', '--wal-archive w', '--until latest'],
    ['--into-cluster', '--data-dir d', '--node n1', '--cluster-name c', '--same-cluster'],
    ['--into-cluster', '--wal-archive w'],
    ['--data-dir d', '--parallel 3'],
  ] as const)
    for (const other of others)
      it(`kvctl: restore refuses ${other} with ${way}, for which it means nothing`, async () => {
        const words = `${way} ${other}`.split(' ');
        const { code, text, stderr } = await kvctl(['restore', scratch, ...words]);
        expect([code, text]).to.deep.equal([2, '']);
        expect(stderr).to.match(
          /^kvctl: --[a-z-]+: expected (no option|only --.*) with it, found --/,
        );
        expect(stderr.trimEnd().endsWith(`found ${other.split(' ')[0] ?? ''}`)).to.equal(true);
      });

  it('kvctl: restore from a stream refuses to choose a backup', async () => {
    const result = await kvctl(['restore', '-', '--data-dir', scratch, '--backup', 'b']);
    expect(result).to.include({ code: 2, text: '' });
    expect(result.stderr).to.contain('a stream holds one backup');
  });

  it('kvctl: restore names a list of a backup that is damaged', async () => {
    const damaged = join(scratch, 'damaged');
    mkdirSync(join(damaged, 'backups'), { recursive: true });
    writeFileSync(join(damaged, 'backups', 'a.json'), '{}\n00000000\n');
    const result = await kvctl(['restore', damaged, '--list']);
    expect(result.code).to.equal(1);
    expect(result.stderr).to.contain('corrupt data in backups/a.json');
  });
});
