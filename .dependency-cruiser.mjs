// Who may import whom (docs/actors.md has the picture). Each rule's comment says what to do instead.
// `reachable` follows chains of imports: an actor that reaches the file system through two harmless
// looking modules is refused too.

const worldModules =
  '^(node:)?(fs|net|tls|http|https|http2|dgram|dns|os|timers|perf_hooks|worker_threads|child_process|cluster|process|vm|v8)(/|$)';

/** Packages and the folders that may import them. A package that is not listed may not be used. */
const packages = {
  '@peculiar/x509': 'cli',
  'cli-progress': 'cli',
  'cli-table3': 'cli',
  comlink: 'runtime/host',
  commander: 'cli',
  farmhash: 'runtime',
  fastify: 'transport',
  '@bokuweb/zstd-wasm': 'runtime/host',
  'lz4-wasm': 'runtime/host',
  'msgpack-lite': 'transport',
  pino: 'runtime/host',
  piscina: 'runtime/host',
  'reflect-metadata': 'cli',
  'tar-stream': 'cli',
  yaml: 'cli',
};
const packageRules = Object.entries(packages).map(([name, folder]) => ({
  name: `package-${name.replace(/[@/]/g, '')}-only-in-${folder.replace('/', '-')}`,
  comment: `${name} is wrapped in ${folder}/: import the wrapper.`,
  severity: 'error',
  from: { path: '^(actors|cli|runtime|sim|transport)/', pathNot: `^${folder}/` },
  to: { path: `^node_modules/${name}/` },
}));

const forbidden = [
  {
    name: 'actors-never-reach-the-world',
    comment: 'An actor sees the world through its context: add a capability to the environment.',
    severity: 'error',
    from: { path: '^actors/' },
    to: { path: worldModules, reachable: true },
  },
  {
    name: 'actors-import-no-builtin',
    comment: 'Not even directly: runtime/bytes.ts has what is pure.',
    severity: 'error',
    from: { path: '^actors/' },
    to: { dependencyTypes: ['core'] },
  },
  {
    name: 'actors-import-actors-and-runtime',
    comment:
      'Actors know the runtime and each other; packages are wrapped in runtime/ or transport/.',
    severity: 'error',
    from: { path: '^actors/' },
    to: { pathNot: '^(actors|runtime)/', dependencyTypesNot: ['core'] },
  },
  {
    name: 'actors-not-the-host',
    comment: 'The host is the real world: the simulator has another one.',
    severity: 'error',
    from: { path: '^actors/' },
    to: { path: '^runtime/host/' },
  },
  {
    name: 'concerns-meet-in-protocols',
    comment: "Import the other concern's protocol.ts, or move what both need to actors/model.",
    severity: 'error',
    from: { path: '^actors/(?!node/)([^/]+)/' },
    to: { path: '^actors/', pathNot: '^actors/($1|model)/|/protocol[.]ts$' },
  },
  {
    name: 'model-knows-no-actor',
    comment: 'The shared vocabulary stands below all concerns.',
    severity: 'error',
    from: { path: '^actors/model/' },
    to: { path: '^actors/(?!model/)' },
  },
  {
    name: 'only-the-plan-imports-actors',
    comment: 'Actors are reached by message: import the protocol and a Ref.',
    severity: 'error',
    from: { path: '^(actors|cli|runtime|sim|transport)/', pathNot: '^actors/node/plan[.]ts$' },
    to: { path: '[.]actor[.]ts$' },
  },
  {
    name: 'runtime-knows-no-domain',
    comment: 'The kernel runs any actors: hand the thing in as an argument.',
    severity: 'error',
    from: { path: '^runtime/' },
    to: { path: '^(actors|cli|sim|transport)/' },
  },
  {
    name: 'runtime-touches-the-world-in-host-only',
    comment:
      'bytes.ts takes a pure function of node:zlib, seal.ts and access-token.ts some of node:crypto; everything else belongs to runtime/host.',
    severity: 'error',
    from: { path: '^runtime/(?!host/|seal\\.ts$|access-token\\.ts$)' },
    to: { dependencyTypes: ['core'], pathNot: '^(node:)?zlib$' },
  },
  {
    name: 'seal-takes-crypto-only',
    comment: 'They are the two places where pure functions of node:crypto are wrapped.',
    severity: 'error',
    from: { path: '^runtime/(seal|access-token)\\.ts$' },
    to: { dependencyTypes: ['core'], pathNot: '^(node:)?crypto$' },
  },
  {
    name: 'runtime-not-its-host',
    comment: 'The kernel gets its host as an argument.',
    severity: 'error',
    from: { path: '^runtime/(?!host/)' },
    to: { path: '^runtime/host/' },
  },
  {
    name: 'transport-knows-no-domain',
    comment:
      'Links carry any message. The edges alone know the gateway, by its protocol and routes.',
    severity: 'error',
    from: { path: '^transport/', pathNot: '^transport/edge-' },
    to: { path: '^(actors|cli|sim)/|^runtime/host/' },
  },
  {
    name: 'edges-know-the-gateway-only',
    comment: 'An edge turns bytes into gateway messages and back.',
    severity: 'error',
    from: { path: '^transport/edge-' },
    to: {
      path: '^(actors|cli|sim)/|^runtime/host/',
      pathNot: '^actors/gateway/(protocol|http-routes)[.]ts$|^actors/model/',
    },
  },
  {
    name: 'sim-is-another-host',
    comment:
      'The simulator replaces host and links; it takes the codec and the pure LZ4 loader only.',
    severity: 'error',
    from: { path: '^sim/' },
    to: {
      path: '^(cli|transport)/|^runtime/host/',
      pathNot: '^transport/(codec|frame)[.]ts$|^runtime/host/codec-modules[.]ts$',
    },
  },
  {
    name: 'cli-starts-nodes-and-talks-to-them',
    comment: 'Commands use messages, pure modules and the client: no actor by itself.',
    severity: 'error',
    from: {
      path: '^cli/',
      pathNot:
        '^cli/commands/storage-files[.]ts$|^cli/backup/|^cli/embedded/(sim-[a-z]+|storage-snapshot)[.]ts$',
    },
    to: {
      path: '^(actors|sim)/',
      pathNot: '^actors/(node|model)/|/protocol[.]ts$|^actors/gateway/http-routes[.]ts$',
    },
  },
  {
    name: 'storage-files-reads-formats-only',
    comment:
      'The offline tools read files of a node that does not run, so there is nobody to ask: this file and cli/backup take the readers and writers of the formats, which are pure. No actors, no other concerns.',
    severity: 'error',
    from: { path: '^cli/commands/storage-files[.]ts$|^cli/backup/' },
    to: {
      path: '^(actors|sim)/',
      pathNot:
        '^actors/(model|node)/|^actors/storage/[^.]+[.]ts$|^actors/replication/stamper[.]ts$',
    },
  },
  {
    name: 'no-dependency-on-tests-or-sim',
    comment:
      'Product code does not know that it is tested. kvd/sim hands the simulator to users: it joins the client and the simulated cluster.',
    severity: 'error',
    from: {
      path: '^(actors|cli|runtime|transport)/',
      pathNot: '^cli/embedded/sim-[a-z]+[.]ts$',
    },
    to: { path: '^(sim|test)/' },
  },
  {
    name: 'simulation-for-users-stands-alone',
    comment: 'A node or a tool must not carry the simulator along: only kvd/sim reaches it.',
    severity: 'error',
    from: { path: '^(cli|sim)/', pathNot: '^cli/embedded/sim-[a-z]+[.]ts$' },
    to: { path: '^cli/embedded/sim-[a-z]+[.]ts$' },
  },
  ...packageRules,
  {
    name: 'packages-are-listed',
    comment: 'Add the package to package.json and, with its one folder, to the list in this file.',
    severity: 'error',
    from: { path: '^(actors|cli|runtime|sim|transport)/' },
    to: {
      path: '^node_modules/',
      pathNot: `^node_modules/(${Object.keys(packages).join('|')})/`,
    },
  },
  {
    name: 'no-unresolvable',
    comment: 'The imported file or package does not exist.',
    severity: 'error',
    from: {},
    to: { couldNotResolve: true },
  },
  {
    name: 'no-cycles',
    comment:
      'Move what both need into a third module, or turn an import of values into one of types.',
    severity: 'error',
    from: {},
    to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
  },
  {
    name: 'no-orphans',
    comment: 'Nobody imports this file: remove it, or use it.',
    severity: 'error',
    from: {
      orphan: true,
      pathNot:
        '[.]d[.]ts$|^runtime/host/task-worker[.]ts$|^cli/(kvd|kvctl|node-thread|embedded/cluster-node)[.]ts$|^sim/main[.]ts$',
    },
    to: {},
  },
];

const options = {
  doNotFollow: { path: 'node_modules' },
  tsPreCompilationDeps: true,
  tsConfig: { fileName: 'tsconfig.json' },
  enhancedResolveOptions: {
    exportsFields: ['exports'],
    conditionNames: ['import', 'node', 'default'],
  },
};

export { configuration as default };
const configuration = { forbidden, options };
