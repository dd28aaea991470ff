// The walls prove themselves: each rule of the linter and of the import graph that keeps the layers
// apart is shown a file that breaks it.

import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { expect } from 'chai';
import { ESLint } from 'eslint';

const root = process.cwd();

/** Rules that the linter names for `code`, as if it were the file of an actor. */
async function refusedBy(eslint: ESLint, code: string): Promise<string[]> {
  // An existing file, because typed rules look it up; its content is replaced.
  const filePath = path.join(root, 'actors/gateway/protocol.ts');
  const [result] = await eslint.lintText(code, { filePath });
  return (result?.messages ?? []).map(({ ruleId, message }) => ruleId ?? message);
}

/** A bad line, and the rule that has to name it. */
const badLines: readonly (readonly [string, string])[] = [
  ['export const now = (): number => Date.now();', 'no-restricted-globals'],
  ['export const draw = (): number => Math.random();', 'no-restricted-properties'],
  [
    "export const order = (a: string, b: string): number => a.localeCompare(b, 'en');",
    'no-restricted-properties',
  ],
  ['export const seen = new Map<string, number>();', 'no-restricted-syntax'],
  ['export let count = 0;\ncount += 1;', 'no-restricted-syntax'],
  ['export const never = (): unknown => new Promise(() => undefined);', 'no-restricted-syntax'],
  [
    'export class A {\n  async run(): Promise<void> {\n    await this.run();\n  }\n}',
    'no-restricted-syntax',
  ],
  [
    'export class A {\n  x = 1;\n  go(c: { session: (w: () => number) => void }): void {\n    c.session(() => this.x);\n  }\n}',
    'no-restricted-syntax',
  ],
  ['export default 1;', 'no-restricted-syntax'],
  ['export enum E {\n  A,\n}', 'no-restricted-syntax'],
  [
    'export const f = (run: () => Promise<void>): void => {\n  run();\n};',
    '@typescript-eslint/no-floating-promises',
  ],
  ['export const f = (x: any): void => void x;', '@typescript-eslint/no-explicit-any'],
  [
    "export const f = (x: 'a' | 'b'): number => {\n  switch (x) {\n    case 'a':\n      return 1;\n  }\n  return 2;\n};",
    '@typescript-eslint/switch-exhaustiveness-check',
  ],
  ["export const f = (): never => {\n  throw 'text';\n};", '@typescript-eslint/only-throw-error'],
];

describe('walls: linter', () => {
  const eslint = new ESLint({ cwd: root });

  it('walls: a good line is not refused', async () => {
    const code = '// Header.\nexport const double = (x: number): number => 2 * x;\n';
    expect(await refusedBy(eslint, code)).to.deep.equal([]);
    // The first one reads the types of the whole program.
  }).timeout(120_000);

  for (const [code, rule] of badLines)
    it(`walls: actors may not: ${code.split('\n').join(' ').slice(0, 60)} (rule=${rule})`, async () => {
      expect(await refusedBy(eslint, `${code}\n`)).to.include(rule);
    });
});

interface BadImport {
  readonly rule: string;
  /** The file that breaks the rule. */
  readonly from: string;
  /** What it imports, and so on: a chain of files of the tree, or a module at its end. */
  readonly through: readonly string[];
}

const bad = (rule: string, from: string, ...through: string[]): BadImport => ({
  rule,
  from,
  through,
});

const badImports: readonly BadImport[] = [
  bad('actors-never-reach-the-world', 'actors/a/direct.ts', 'node:fs'),
  bad(
    'actors-never-reach-the-world',
    'actors/a/far.ts',
    'runtime/b.ts',
    'runtime/c.ts',
    'node:net',
  ),
  bad('actors-import-no-builtin', 'actors/a/builtin.ts', 'node:path'),
  bad('actors-not-the-host', 'actors/a/host.ts', 'runtime/host/d.ts'),
  bad('concerns-meet-in-protocols', 'actors/a/other.ts', 'actors/b/inside.ts'),
  bad('model-knows-no-actor', 'actors/model/up.ts', 'actors/b/protocol.ts'),
  bad('only-the-plan-imports-actors', 'actors/a/instance.ts', 'actors/a/one.actor.ts'),
  bad('runtime-knows-no-domain', 'runtime/domain.ts', 'actors/model/e.ts'),
  bad('runtime-touches-the-world-in-host-only', 'runtime/world.ts', 'node:fs'),
  bad('seal-takes-crypto-only', 'runtime/seal.ts', 'node:fs'),
  bad('runtime-not-its-host', 'runtime/own-host.ts', 'runtime/host/d.ts'),
  bad('transport-knows-no-domain', 'transport/domain.ts', 'actors/model/e.ts'),
  bad('edges-know-the-gateway-only', 'transport/edge-f.ts', 'actors/b/protocol.ts'),
  bad('sim-is-another-host', 'sim/host.ts', 'runtime/host/d.ts'),
  bad('cli-starts-nodes-and-talks-to-them', 'cli/inside.ts', 'actors/b/inside.ts'),
  bad('cli-starts-nodes-and-talks-to-them', 'cli/commands/other.ts', 'actors/storage/h.ts'),
  bad('storage-files-reads-formats-only', 'cli/commands/storage-files.ts', 'actors/b/inside.ts'),
  bad(
    'storage-files-reads-formats-only',
    'cli/commands/storage-files.ts',
    'actors/storage/i.actor.ts',
  ),
  bad('no-dependency-on-tests-or-sim', 'cli/tests.ts', 'test/g.ts'),
  bad('simulation-for-users-stands-alone', 'cli/carries.ts', 'cli/embedded/sim-cluster.ts'),
  bad('no-cycles', 'runtime/back.ts', 'runtime/ring.ts', 'runtime/back.ts'),
  bad('no-unresolvable', 'runtime/lost.ts', './no-such-file.ts'),
  bad('no-orphans', 'runtime/alone.ts'),
];
const goodImports = ['actors/b/protocol.ts', 'actors/model/e.ts', 'runtime/fine.ts'];

interface Violation {
  readonly from: string;
  readonly rule: { readonly name: string };
}

/** Writes the chains of imports as files and has them checked, all in one run. */
async function violations(): Promise<readonly Violation[]> {
  const tree = mkdtempSync(path.join(os.tmpdir(), 'kvd-walls-'));
  const importsOf = new Map<string, string[]>([['actors/a/good.ts', goodImports]]);
  for (const { from, through } of badImports) {
    const chain = [from, ...through];
    chain.forEach((file, i) => {
      const next = chain[i + 1];
      if (next !== undefined) importsOf.set(file, [...(importsOf.get(file) ?? []), next]);
    });
  }
  const files = new Set([
    ...importsOf.keys(),
    ...[...importsOf.values()].flat(),
    ...badImports.map(({ from }) => from),
  ]);
  try {
    for (const file of files) {
      if (!/^[a-z]+\/.*[.]ts$/.test(file)) continue;
      mkdirSync(path.join(tree, path.dirname(file)), { recursive: true });
      const lines = (importsOf.get(file) ?? []).map((target) => {
        const isFile = /^[a-z]+\//.test(target);
        const relative = isFile ? path.relative(path.dirname(file), target) : target;
        return `import '${isFile && !relative.startsWith('.') ? `./${relative}` : relative}';`;
      });
      writeFileSync(path.join(tree, file), `${lines.join('\n')}\nexport const here = 1;\n`);
    }
    writeFileSync(path.join(tree, 'tsconfig.json'), '{"compilerOptions":{"module":"nodenext"}}');
    return await cruise(tree);
  } finally {
    rmSync(tree, { recursive: true });
  }
}

async function cruise(tree: string): Promise<readonly Violation[]> {
  const program = path.join(root, 'node_modules/dependency-cruiser/bin/dependency-cruise.mjs');
  const config = path.join(root, '.dependency-cruiser.mjs');
  const folders = ['actors', 'cli', 'runtime', 'sim', 'test', 'transport'];
  const args = [program, '--config', config, '--output-type', 'json', ...folders];
  const output = await new Promise<string>((resolve) => {
    // It ends with the number of violations as its exit code: only what it prints counts.
    execFile(process.execPath, args, { cwd: tree }, (_, stdout) => resolve(stdout));
  });
  const { summary } = JSON.parse(output) as { summary: { violations: Violation[] } };
  return summary.violations;
}

describe('walls: import graph', () => {
  let found: readonly Violation[] = [];

  before(async () => {
    found = await violations();
  });

  it('walls: good imports break nothing', () => {
    expect(found.filter(({ from }) => from === 'actors/a/good.ts')).to.deep.equal([]);
  });

  for (const { rule, from, through } of badImports)
    it(`walls: ${[from, ...through].join(' -> ')} (rule=${rule})`, () => {
      const rules = found.filter((one) => one.from === from).map((one) => one.rule.name);
      expect(rules).to.include(rule);
    });
});
