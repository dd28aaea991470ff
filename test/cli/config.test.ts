// Configuration: who wins over whom, and that nothing wrong is taken.

import { expect } from 'chai';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { defaultMemory, splitMemory } from '../../actors/node/memory-budget.ts';
import { arenaBytes } from '../../actors/node/sizes.ts';
import { defaultTunables, settingNames, settingRows } from '../../actors/node/settings.ts';
import { collectSet } from '../../cli/node/command-line.ts';
import {
  type ConfigSources,
  isLoopback,
  loadConfig,
  type NodeConfig,
  seedList,
} from '../../cli/node/config.ts';
import { KvError } from '../../runtime/errors.ts';
import { machineMemoryBytes } from '../../runtime/host/machine-memory.ts';

const miB = 1024 ** 2;

describe('config', () => {
  let folder = '';
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'kvd-config-'));
  });
  after(() => rmSync(folder, { recursive: true }));

  function load(sources: Partial<ConfigSources> & { readonly yaml?: string } = {}): NodeConfig {
    const { yaml, ...rest } = sources;
    const path = join(folder, 'kvd.yaml');
    if (yaml !== undefined) writeFileSync(path, yaml);
    const file = yaml === undefined ? undefined : path;
    return loadConfig({ file, environment: {}, flags: { shards: 1 }, set: {}, ...rest });
  }

  /** The field that is refused, and what was said of it. */
  function refusal(sources: Parameters<typeof load>[0]): string {
    try {
      load(sources);
      return 'taken';
    } catch (error) {
      if (!(error instanceof KvError)) throw error;
      expect(error.code).to.equal('BAD_REQUEST');
      return `${String(error.fields['field'])} | ${String(error.fields['detail'])}`;
    }
  }

  it('config: the archive of the log is a directory, or there is none', () => {
    expect(load({ flags: { walArchive: '/archive', shards: 1 } }).walArchive).to.equal('/archive');
    expect(load({ environment: { KVD_WAL_ARCHIVE: 'a' } }).walArchive).to.equal('a');
    expect(load().walArchive).to.equal(undefined);
    expect(refusal({ flags: { walArchive: 5, shards: 1 } })).to.contain(
      'walArchive: expected text',
    );
  });

  it('config: without any source there is one node on loopback', () => {
    const { profile, shards, ...rest } = loadConfig({
      file: undefined,
      environment: {},
      flags: {},
      set: {},
    });
    expect(rest).to.deep.equal({
      nodeId: 'n1',
      clusterName: 'kvd',
      dataDir: './kvd-data',
      host: '127.0.0.1',
      httpPort: 7000,
      respPort: 6379,
      internodePort: 7002,
      seeds: [],
      durability: 'group',
      compaction: 'leveled',
      compression: 'auto',
      logLevel: 'info',
      logFormat: 'json',
      insecure: false,
      auth: 'off',
      acceptDataLoss: false,
      tunables: defaultTunables(),
    });
    expect(['small', 'wide']).to.include(profile);
    expect(shards).to.be.at.least(1);
  });

  it('config: every setting can be set on the command line', () => {
    for (const name of settingNames)
      expect(collectSet(`${name}=${settingRows[name].default}`, { a: 1 }), name).to.deep.equal({
        a: 1,
        [name]: settingRows[name].default,
      });
    for (const text of ['l0Tables', 'l0Tables=', 'l0Tables=x', '=4', '0=4', 'a b=4'])
      expect(() => collectSet(text, {}), text).to.throw('--set: expected name=number');
  });

  it('config: variables win over the file, flags over both', () => {
    const yaml = 'nodeId: from-file\nhttpPort: 8001\ninternodePort: 8002\n';
    const environment = { KVD_HTTP_PORT: '9001', KVD_INTERNODE_PORT: '9002' };
    const flags = { internodePort: '9502' };
    const { nodeId, httpPort, internodePort } = load({ yaml, environment, flags });
    expect([nodeId, httpPort, internodePort]).to.deep.equal(['from-file', 9001, 9502]);
  });

  it('config: what is empty or absent in a source leaves the word to the others', () => {
    const yaml = 'nodeId: from-file\nclusterName:\n';
    const environment = { KVD_NODE_ID: '', KVD_HTTP_PORT: undefined };
    const config = load({ yaml, environment, flags: { nodeId: undefined } });
    expect([config.nodeId, config.clusterName, config.httpPort]).to.deep.equal([
      'from-file',
      'kvd',
      7000,
    ]);
  });

  it('config: an empty file says nothing', () => {
    expect(load({ yaml: '' }).nodeId).to.equal('n1');
    expect(load({ yaml: '# nothing\n' }).nodeId).to.equal('n1');
  });

  it('config: every option has a variable and a flag of its own', () => {
    const environment = {
      KVD_NODE_ID: 'n2',
      KVD_CLUSTER_NAME: 'test',
      KVD_DATA_DIR: '/data',
      KVD_HOST: '0.0.0.0',
      KVD_HTTP_PORT: '1',
      KVD_INTERNODE_PORT: '65535',
      KVD_SEEDS: 'n2@10.0.0.2:7002',
      KVD_PROFILE: 'wide',
      KVD_SHARDS: '64',
      KVD_DURABILITY: 'periodic',
      KVD_RESP_PORT: '2',
      KVD_MEMORY: '1G',
      KVD_LOG_LEVEL: 'debug',
      KVD_LOG_FORMAT: 'pretty',
      KVD_INSECURE: 'true',
    };
    const expected = {
      nodeId: 'n2',
      clusterName: 'test',
      dataDir: '/data',
      host: '0.0.0.0',
      httpPort: 1,
      respPort: 2,
      internodePort: 65_535,
      seeds: [{ node: 'n2', host: '10.0.0.2', internodePort: 7002 }],
      profile: 'wide',
      shards: 64,
      durability: 'periodic',
      logLevel: 'debug',
      logFormat: 'pretty',
      insecure: true,
    };
    const fromVariables = load({ environment, flags: {} });
    expect(fromVariables).to.deep.include(expected);
    const { memory, ...flags } = { ...expected, memory: '1G' };
    expect(load({ flags: { ...flags, seeds: 'n2@10.0.0.2:7002', memory } })).to.deep.equal(
      fromVariables,
    );
  });

  for (const [option, values, expected] of [
    ['nodeId', ['a b', 'ü', '', 'x'.repeat(65), 5], ''],
    ['clusterName', ['a/b', '..', 'x'.repeat(65)], ''],
    ['dataDir', ['', 5], 'text'],
    ['host', ['', 5], 'text'],
    ['httpPort', [-1, 65_536, '1.5', 1.5, 'http', ' 80', true], 'a whole number from 0 to 65535'],
    ['internodePort', [-1, 65_536, '0x10'], 'a whole number from 0 to 65535'],
    ['respPort', [-1, 65_536, 'on', true], 'a whole number from 0 to 65535'],
    ['shards', [0, 65, '', 'many'], 'a whole number from 1 to 64'],
    ['profile', ['huge', 1], 'one of single, small, wide'],
    ['durability', ['always', 'Group', true], 'one of group, periodic, none'],
    ['logLevel', ['trace', 'INFO'], 'one of debug, info, warn, error'],
    ['logFormat', ['text'], 'one of json, pretty'],
    ['insecure', ['yes', 'TRUE', 1, 2], 'true or false'],
    ['memory', ['lots', '1.5G', '-1M', '2T', ''], 'bytes, or a number with K, M or G'],
    ['memory', ['31M', 32 * miB - 1, 0], 'at least 32M'],
  ] as const)
    for (const value of values)
      it(`config: a bad value is refused by name (${option}=${JSON.stringify(value).slice(0, 20)})`, () => {
        const said = refusal({ flags: { shards: 1, [option]: value } });
        expect(said.startsWith(`${option} | ${option}: expected ${expected}`), said).to.equal(true);
      });

  it('config: unknown options in the file are refused, those of later by name', () => {
    expect(refusal({ yaml: 'nodeID: n1\n' })).to.match(/^nodeID \| unknown option nodeID/);
    expect(refusal({ yaml: 'node-id: n1\n' })).to.match(/^node-id \| unknown option/);
    for (const name of ['dc', 'rack', 'weight'])
      expect(refusal({ yaml: `${name}: 1\n` })).to.equal(
        `${name} | ${name} is not implemented yet`,
      );
  });

  it('config: the Redis protocol is switched off by one word', () => {
    expect(load({ flags: { respPort: 'off' } }).respPort).to.equal(undefined);
    expect(load({ yaml: 'respPort: off\n' }).respPort).to.equal(undefined);
    expect(load({ yaml: 'respPort: false\n' }).respPort).to.equal(undefined);
  });

  it('config: a file that is missing, no YAML or no mapping is refused', () => {
    expect(refusal({ file: join(folder, 'missing.yaml') })).to.match(
      /^config \| cannot read .*missing/,
    );
    expect(refusal({ yaml: 'a: [1\n' })).to.match(/^config \| cannot read/);
    expect(refusal({ yaml: 'nodeId: a\nnodeId: b\n' })).to.match(/^config \| cannot read/);
    expect(refusal({ yaml: '- n1\n' })).to.match(/^config \| config: expected a YAML mapping/);
    expect(refusal({ yaml: 'n1\n' })).to.match(/^config \| config: expected a YAML mapping/);
  });

  it('config: settings come from the file, --set wins', () => {
    const yaml = 'settings:\n  virtualNodes: 16\n  replicationFactor: 2\n';
    const { tunables } = load({ yaml, set: { replicationFactor: 1 } });
    expect(tunables).to.deep.equal({
      ...defaultTunables(),
      virtualNodes: 16,
      replicationFactor: 1,
    });
  });

  it('config: settings that are unknown, out of range or no mapping are refused', () => {
    expect(refusal({ set: { virtualNodes: 5_000 } })).to.match(/^virtualNodes \| .* 1 to 4096$/);
    expect(refusal({ set: { vnodes: 5 } })).to.equal('vnodes | unknown setting vnodes');
    expect(refusal({ yaml: 'settings: [1]\n' })).to.match(/^settings \| .*mapping/);
    expect(refusal({ yaml: 'settings:\n  virtualNodes: "16"\n' })).to.match(/^virtualNodes \|/);
  });

  it('config: a memory budget is split among the shards: memtables, log and caches', () => {
    const sizes = (memory: unknown, shards: number): number[] => {
      const { tunables } = load({ flags: { shards, memory } });
      const { memtableBytes, inFlightBytes, blockCacheBytes, rowCacheBytes } = tunables;
      return [memtableBytes, inFlightBytes, blockCacheBytes, rowCacheBytes];
    };
    const tenth = (bytes: number): number => Math.floor(bytes / 10);
    expect(sizes('512M', 1)).to.deep.equal([tenth(512 * miB), 16 * miB, 128 * miB, 64 * miB]);
    expect(sizes('512m', 2)).to.deep.equal([tenth(256 * miB), 8 * miB, 64 * miB, 32 * miB]);
    expect(sizes(32 * miB, 1)).to.deep.equal([tenth(32 * miB), miB, 8 * miB, 4 * miB]);
    expect(sizes('32768K', 1)).to.deep.equal(sizes(32 * miB, 1));
    // Each within its own range.
    const large = [1024 * miB, 16 * miB, 16 * 1024 * miB, 2047 * miB];
    expect(sizes('64G', 1)).to.deep.equal(large);
    const named = load({ flags: { shards: 1, memory: '512M' }, set: { memtableBytes: 65_536 } });
    expect(named.tunables.memtableBytes, 'a setting by name wins').to.equal(65_536);
    expect(refusal({ flags: { memory: '31M' } })).to.match(/^memory \| .* at least 32M$/);
    expect(refusal({ flags: { memory: 'much' } })).to.match(/^memory \| .* K, M or G$/);
  });

  it('config: without a budget it is a quarter of the machine, 32 MiB to 1 GiB', () => {
    const gib = 1024 * miB;
    const budgets = [1, 64 * miB, gib, 64 * gib].map(defaultMemory);
    expect(budgets).to.deep.equal([32 * miB, 32 * miB, 256 * miB, gib]);
    const { tunables } = load({ flags: { shards: 2 }, memoryByDefault: 256 * miB });
    expect(tunables.blockCacheBytes).to.equal(32 * miB);
    const given = load({ flags: { shards: 2, memory: '512M' }, memoryByDefault: 256 * miB });
    expect(given.tunables.blockCacheBytes).to.equal(64 * miB);
    expect(machineMemoryBytes()).to.be.above(0).and.at.most(totalmem());
  });

  it('config: the parts of a budget stay within it, arenas of memtables included', () => {
    for (const memory of [256 * miB, 1024 * miB, 4096 * miB]) {
      const tunables = { ...defaultTunables(), ...splitMemory(memory, 1) };
      const { inFlightBytes, blockCacheBytes, rowCacheBytes, arenasPerShard } = tunables;
      const arenas = arenasPerShard * arenaBytes(tunables);
      const sum = arenas + inFlightBytes + blockCacheBytes + rowCacheBytes;
      expect(sum / memory).to.be.within(0.6, 0.95);
    }
  });

  it('config: an address beyond loopback needs --insecure', () => {
    for (const host of ['0.0.0.0', '::', '10.0.0.1', 'example.org', '127.0.0.1.example.org']) {
      expect(isLoopback(host), host).to.equal(false);
      expect(refusal({ flags: { shards: 1, host } })).to.match(/^host \| host .*--insecure$/);
      expect(load({ flags: { shards: 1, host, insecure: true } }).host).to.equal(host);
    }
    for (const host of ['127.0.0.1', '127.1.2.3', 'localhost', '::1'])
      expect(load({ flags: { shards: 1, host } }).host).to.equal(host);
  });

  it('config: certificate, key and authority belong together, and have to be readable', () => {
    for (const flags of [{ tlsCert: 'a' }, { tlsKey: 'a', tlsCa: 'a' }, { tlsClientAuth: true }])
      expect(refusal({ flags: { shards: 1, ...flags } })).to.match(/belong together$/);
    const flags = { shards: 1, tlsCert: '/none/a', tlsKey: '/none/a', tlsCa: '/none/a' };
    expect(refusal({ flags })).to.match(/^tlsCert \| cannot read \/none\/a/);
  });

  it('config: an unknown variable is refused with the nearest known, those of Kubernetes are not', () => {
    expect(refusal({ environment: { KVD_HTPP_PORT: '7000' } })).to.equal(
      'KVD_HTPP_PORT | unknown variable KVD_HTPP_PORT; the nearest known is KVD_HTTP_PORT',
    );
    expect(refusal({ environment: { KVD_AUTH: 'on' } })).to.equal(
      'auth | auth: expected one of off, required',
    );
    expect(refusal({ environment: { KVD_RACK: 'r1' } })).to.equal(
      'rack | rack is not implemented yet',
    );
    const environment = {
      KVD_SERVICE_HOST: '10.0.0.1',
      KVD_PORT: 'tcp://10.0.0.1:7000',
      KVD_PORT_7000_TCP_ADDR: '10.0.0.1',
      KVD_TYPO: '',
    };
    expect(refusal({ environment })).to.equal('taken');
  });

  it('config: sizes that make no sense together are refused', () => {
    const sizes = { valueBytesMax: 2 * miB, memtableBytes: miB };
    expect(refusal({ set: sizes })).to.equal(
      'valueBytesMax | valueBytesMax: expected at most memtableBytes (1048576)',
    );
    expect(refusal({ set: { ...sizes, memtableBytes: 4 * miB, walSegmentBytes: miB } })).to.equal(
      'walSegmentBytes | walSegmentBytes: expected at least valueBytesMax (2097152)',
    );
    const flags = { shards: 1, memory: '64M' };
    expect(refusal({ flags, set: { memtableBytes: 32 * miB } })).to.equal(
      'memory | memory: expected at least 117440512, which memtables and block caches are set to take',
    );
    expect(refusal({ flags, set: { memtableBytes: 16 * miB } })).to.equal('taken');
  });

  it('config: on a terminal logs are pretty, unless a source says otherwise', () => {
    const formatOf = (sources: Parameters<typeof load>[0]): string =>
      load({ isTerminal: true, ...sources }).logFormat;
    expect(formatOf({})).to.equal('pretty');
    expect(formatOf({ yaml: 'logFormat: json\n' })).to.equal('json');
    expect(formatOf({ environment: { KVD_LOG_FORMAT: 'json' } })).to.equal('json');
    expect(formatOf({ flags: { shards: 1, logFormat: 'json' } })).to.equal('json');
  });

  it('config: data loss is accepted by flag only, for one start', () => {
    expect(load({ flags: { shards: 1, acceptDataLoss: true } }).acceptDataLoss).to.equal(true);
    expect(refusal({ yaml: 'acceptDataLoss: true\n' })).to.contain('unknown option acceptDataLoss');
    expect(refusal({ environment: { KVD_ACCEPT_DATA_LOSS: '1' } })).to.contain('unknown variable');
  });

  it('config: seeds are id@host:port, as text or as a list', () => {
    const expected = [
      { node: 'n1', host: '127.0.0.1', internodePort: 7002 },
      { node: 'n2', host: 'db-2.example.org', internodePort: 65_535 },
    ];
    const listed = ['n1@127.0.0.1:7002', 'n2@db-2.example.org:65535'];
    expect(seedList(listed.join(','))).to.deep.equal(expected);
    expect(seedList(` ${listed.join(' , ')} `)).to.deep.equal(expected);
    expect(seedList(listed)).to.deep.equal(expected);
    expect(seedList(undefined)).to.deep.equal([]);
    expect(load({ yaml: `seeds:\n  - ${listed.join('\n  - ')}\n` }).seeds).to.deep.equal(expected);
  });

  for (const seeds of [
    '',
    'n1',
    'n1@host',
    '@host:1',
    'n1@:7002',
    'n1@host:0',
    'n1@host:65536',
    'n1@host:port',
    'n 1@host:1',
    'n1@host:1,',
    'n1@host:1,n1@other:2',
  ])
    it(`config: bad seeds are refused (seeds=${seeds})`, () => {
      expect(refusal({ flags: { shards: 1, seeds } })).to.match(/^seeds \| seeds: expected/);
    });

  it('config: the seeds have to name this node', () => {
    const flags = { shards: 1, nodeId: 'n3', seeds: 'n1@h:1,n2@h:2' };
    expect(refusal({ flags })).to.equal(
      'seeds | seeds: expected all members, this node (n3) among them',
    );
  });
});
