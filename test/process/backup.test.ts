// Backups of real processes: written, snapshotted, backed up, wiped, restored and compared byte for
// byte; and a cluster that is taken back to a point in time by its archived log.

import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { DevCluster } from './dev-cluster.ts';
import { kvctlPath, type Ran, runProgram } from './run-program.ts';

const run = (args: readonly string[], stdin?: Buffer): Promise<Ran> =>
  runProgram(kvctlPath, args, { stdin });

const names = ['n1', 'n2', 'n3'];

describe('process: backup and restore', function () {
  this.timeout(180_000);
  let scratch: string;
  let clusters: DevCluster[] = [];

  beforeEach(() => {
    scratch = mkdtempSync(join(tmpdir(), 'kvd-backup-'));
    clusters = [];
  });

  afterEach(async () => {
    for (const cluster of clusters) {
      await cluster.stop();
      cluster.remove();
    }
    rmSync(scratch, { recursive: true, force: true });
  });

  async function start(dataDir: string, extra: readonly string[] = []): Promise<DevCluster> {
    const cluster = await DevCluster.start({ nodes: 3, dataDir: join(scratch, dataDir), extra });
    clusters.push(cluster);
    return cluster;
  }

  const on = (cluster: DevCluster, args: readonly string[], stdin?: Buffer): Promise<Ran> =>
    run([...args, ...cluster.endpoints.flatMap((url) => ['--endpoint', url])], stdin);

  async function ok(result: Promise<Ran>): Promise<string> {
    const { code, stdout, stderr } = await result;
    expect(code, stderr + stdout.toString()).to.equal(0);
    return stdout.toString();
  }

  const linesOf = (from: number, to: number, text: string): string =>
    Array.from({ length: to - from }, (_, i) =>
      JSON.stringify({ key: `k${from + i}`, value: { n: from + i, text } }),
    ).join('\n');

  async function load(cluster: DevCluster, lines: string): Promise<void> {
    const file = join(scratch, 'lines');
    writeFileSync(file, lines);
    await ok(on(cluster, ['import', file, '-q']));
  }

  const all = (cluster: DevCluster): Promise<string> => ok(on(cluster, ['export', '-', '-q']));

  async function restoreAll(
    place: string,
    dataDir: string,
    more: readonly string[],
  ): Promise<void> {
    for (const node of names) {
      const target = ['--data-dir', join(scratch, dataDir, node), '--node', node];
      await ok(run(['restore', place, ...target, ...more]));
    }
  }

  it('backup: a wiped cluster comes back byte for byte, from a directory and from a tar', async () => {
    const cluster = await start('data');
    const place = join(scratch, 'backup');
    await load(cluster, linesOf(0, 2000, 'first'));
    await ok(on(cluster, ['snapshot', 'create', 'before']));
    const first = JSON.parse(await ok(on(cluster, ['backup', place, '-o', 'json']))) as Figures;
    expect(first).to.include({ copied_tables: first.tables });
    await load(cluster, linesOf(1500, 2500, 'second'));
    await ok(on(cluster, ['del', 'k7']));
    const wanted = await all(cluster);
    const second = JSON.parse(await ok(on(cluster, ['backup', place, '-o', 'json']))) as Figures;
    expect(second.tables).to.be.above(second.copied_tables);
    expect(second.copied_bytes).to.be.below(second.bytes);
    const tar = (await on(cluster, ['backup', '-', '-q'])).stdout;
    await load(cluster, linesOf(0, 100, 'lost'));

    // Its own snapshots are gone again, the one of the user is not.
    const listed = await ok(on(cluster, ['snapshot', 'list', '-o', 'raw']));
    expect(listed.split('\n').map((line) => line.split('\t')[1])).to.deep.equal([
      ...['before', 'before', 'before'],
      undefined,
    ]);
    await ok(on(cluster, ['snapshot', 'delete', 'before']));
    expect((await on(cluster, ['snapshot', 'delete', 'before'])).code).to.equal(4);
    expect(readdirSync(join(scratch, 'data', 'n1', 'snapshots'))).to.deep.equal([]);

    await ok(run(['restore', place, '--check']));
    await cluster.stop();
    rmSync(join(scratch, 'data'), { recursive: true });
    await restoreAll(place, 'data', ['--same-cluster']);
    await cluster.launch();
    expect(await all(cluster)).to.equal(wanted);
    expect((await on(cluster, ['get', 'k7'])).code).to.equal(4);
    await ok(on(cluster, ['put', 'k7', '"again"']));

    await cluster.stop();
    rmSync(join(scratch, 'data'), { recursive: true });
    for (const node of names) {
      const target = ['--data-dir', join(scratch, 'data', node), '--node', node];
      await ok(run(['restore', '-', ...target, '--same-cluster'], tar));
    }
    await cluster.launch();
    expect(await all(cluster)).to.equal(wanted);
  });

  it('backup: what is damaged is refused with the name of its file, and needs a new cluster name', async () => {
    const cluster = await start('data');
    const place = join(scratch, 'backup');
    await load(cluster, linesOf(0, 300, 'x'));
    await ok(on(cluster, ['backup', place, '-q']));
    const dataDir = join(scratch, 'new', 'n2');
    const restore = (...more: string[]): Promise<Ran> =>
      run(['restore', place, '--data-dir', dataDir, '--node', 'n2', ...more]);
    expect(await restore()).to.include({ code: 2 });
    expect(await restore('--cluster-name', 'dev')).to.include({ code: 2 });
    expect((await restore('--until', '2026-01-01T00:00:00Z')).stderr).to.contain('--wal-archive');

    const [file = ''] = readdirSync(join(place, 'tables')).filter((name) => name.startsWith('n2'));
    const table = join(place, 'tables', file);
    const good = readFileSync(table);
    const bad = Buffer.from(good);
    bad[100] = (bad[100] as number) ^ 1;
    writeFileSync(table, bad);
    for (const result of [
      await restore('--cluster-name', 'new'),
      await run(['restore', place, '--check']),
    ]) {
      expect(result.code).to.equal(1);
      expect(result.stderr).to.contain(`corrupt data in tables/${file}`);
    }
    expect(existsSync(join(dataDir, 'identity.json'))).to.equal(false);
    writeFileSync(table, good);
    await ok(restore('--cluster-name', 'new'));
    expect((await restore('--cluster-name', 'new')).stderr).to.contain('restore into an empty one');

    // The same records into a cluster of any shape.
    const other = await start('other', ['--replication', '1']);
    await ok(on(other, ['restore', place, '--into-cluster', '-q']));
    expect(await all(other)).to.equal(await all(cluster));
  });

  it('backup: --until goes back to a point in time that no backup was made at', async () => {
    const archive = join(scratch, 'archive');
    const extra = ['--wal-archive', archive, '--set', 'walArchiveIntervalMs=300'];
    const cluster = await start('data', extra);
    const place = join(scratch, 'backup');
    await load(cluster, linesOf(0, 300, 'backed up'));
    await ok(on(cluster, ['backup', place, '-q']));
    await load(cluster, linesOf(200, 500, 'logged'));
    await cluster.killAll();
    await cluster.launch();
    await ok(on(cluster, ['del', 'k3']));
    const wanted = await all(cluster);
    const until = new Date(Date.now() + 1).toISOString();
    while (Date.now() <= Date.parse(until));
    await load(cluster, linesOf(0, 500, 'a mistake'));
    await cluster.stop();
    rmSync(join(scratch, 'data'), { recursive: true });

    const late = await run([
      ...['restore', place, '--data-dir', join(scratch, 'late'), '--node', 'n1', '--same-cluster'],
      ...['--wal-archive', archive, '--until', '2199-01-01T00:00:00Z'],
    ]);
    expect(late.code).to.equal(2);
    expect(late.stderr).to.contain('is complete up to');
    await restoreAll(place, 'data', [
      ...['--same-cluster', '--wal-archive', archive, '--until', until],
    ]);
    // The restored nodes have a history of their own.
    const again = await DevCluster.start({ nodes: 3, dataDir: join(scratch, 'data') });
    clusters.push(again);
    expect(await all(again)).to.equal(wanted);
  });
});

interface Figures {
  readonly tables: number;
  readonly bytes: number;
  readonly copied_tables: number;
  readonly copied_bytes: number;
}
