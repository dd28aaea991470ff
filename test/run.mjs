// The one test command: format, lint, imports, types and build, then unit tests, then the simulator
// over fixed seeds, then planted bugs that it must find, then tests of real processes. Stages of one
// row run side by side; a row with a failure is the last one. The last line sums up: each test
// counts as one, and so does each stage that is not mocha.

import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const folders = ['runtime', 'transport', 'actors', 'cli', 'sim'].filter((name) => existsSync(name));
const bin = (name) => join('node_modules', '.bin', name);
const scratch = mkdtempSync(join(tmpdir(), 'kvd-test-'));

const testsOf = (...areas) => areas.map((area) => `dist/test/${area}/**/*.test.js`);
const but = (...areas) => areas.flatMap((area) => ['--ignore', `dist/test/${area}/**`]);
/** Their processes do not keep what the linter and the compiler have read for the others. */
const tools = ['architecture'];
/** What plays the most: about as long as all the rest. */
const played = ['storage', 'sim', 'serial'];
const otherTests = ['dist/test/**/*.test.js', ...but(...tools, ...played, 'process')];
const processTests = ['dist/test/process/**/*.test.js'];
const mocha = (...args) => [bin('mocha'), '--reporter', 'test/reporter.mjs', ...args];

/** Rows of stages: name, command, and what has to exist for it to make sense. */
const rows = [
  [
    { name: 'format', command: [bin('biome'), 'format', '.'] },
    { name: 'types of actors', command: [bin('tsc'), '-p', 'tsconfig.actors.json'] },
    { name: 'build', command: [bin('tsc'), '-p', 'tsconfig.json'] },
    {
      name: 'imports',
      command: [bin('depcruise'), '--config', '.dependency-cruiser.mjs', ...folders],
    },
  ],
  [
    { name: 'lint', command: [bin('eslint'), '.'] },
    { name: 'tests of the architecture', command: mocha(...testsOf(...tools)), isMocha: true },
  ],
  [
    {
      name: 'tests of storage and simulator',
      command: mocha(...testsOf(...played)),
      isMocha: true,
    },
    { name: 'all other unit tests', command: mocha(...otherTests), isMocha: true },
  ],
  [
    {
      name: 'simulator',
      command: [process.execPath, 'dist/sim/main.js', '--seeds', '40'],
      needs: 'dist/sim/main.js',
    },
  ],
  [{ name: 'planted bugs', command: [process.execPath, 'dist/test/mutants/main.js', '--quick'] }],
  [
    {
      name: 'process tests',
      command: mocha(...processTests),
      isMocha: true,
      needs: 'dist/test/process',
    },
  ],
];

let passed = 0;
let failed = 0;

/** Runs one stage and prints what it said, in one piece, when it has ended. */
function run({ name, command, isMocha = false }) {
  const counts = join(scratch, name);
  const startedMs = performance.now();
  return new Promise((resolve) => {
    const child = spawn(command[0], command.slice(1), {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, FORCE_COLOR: '0', KVD_TEST_COUNTS: counts },
    });
    const said = [];
    child.stdout.on('data', (chunk) => said.push(chunk));
    child.stderr.on('data', (chunk) => said.push(chunk));
    child.on('error', (error) => said.push(Buffer.from(`${error.message}\n`)));
    child.on('close', (code) => {
      const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
      const output = Buffer.concat(said).toString();
      const verdict = code === 0 ? 'ok' : `FAILED with exit code ${code}`;
      console.log(`--- ${name}: ${verdict} (${seconds} s)`);
      if (output.trim() !== '') console.log(output.trimEnd());
      count(code === 0, isMocha && existsSync(counts) ? readFileSync(counts, 'utf8') : undefined);
      resolve(code === 0);
    });
  });
}

/** `counts`: what the reporter wrote, a line with passes and failures. */
function count(isGood, counts) {
  const [passes, failures] = (counts ?? (isGood ? '1 0' : '0 1')).trim().split(' ').map(Number);
  passed += passes;
  // A run that ended badly without a failed test (a hook, a leak) is a failure of its own.
  failed += isGood ? failures : Math.max(1, failures);
}

const startedMs = performance.now();
// What an earlier build left of removed files must not be tested.
rmSync('dist', { recursive: true, force: true });
for (const row of rows) {
  const stages = row.filter(({ needs }) => needs === undefined || existsSync(needs));
  const results = await Promise.all(stages.map(run));
  if (results.includes(false)) break;
}
rmSync(scratch, { recursive: true });
console.log(`--- all: ${((performance.now() - startedMs) / 1000).toFixed(1)} s`);
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
