// Rules of the tree that no compiler and no linter knows. Each message says what to do instead.

import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';

const root = process.cwd();
const codeFolders = ['actors', 'cli', 'runtime', 'sim', 'test', 'transport'];
const bannedNames = ['common', 'helpers', 'index', 'manager', 'misc', 'types', 'utils'];
const linesMax = 500;
/** Written apart, so that this file does not name them. */
const unfinished = ['TO' + 'DO', 'FIX' + 'ME', 'XX' + 'X', 'HA' + 'CK'];

function filesBelow(folder: string): string[] {
  const full = path.join(root, folder);
  if (!existsSync(full)) return [];
  return readdirSync(full, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(root, path.join(entry.parentPath, entry.name)))
    .sort();
}

const read = (file: string): string => readFileSync(path.join(root, file), 'utf8');
const sources = codeFolders
  .flatMap(filesBelow)
  .filter((file) => /[.](ts|mjs)$/.test(file) && !file.includes('fixtures/'));
const documents = [
  ...readdirSync(root).filter((file) => file.endsWith('.md')),
  ...filesBelow('docs').filter((file) => file.endsWith('.md')),
];

/** The lines of the comment that opens a file, without a shebang line and drawings (indented). */
function headerLines(file: string): number {
  const lines = read(file).split('\n');
  const from = lines[0]?.startsWith('#!') === true ? 1 : 0;
  const end = lines.findIndex((line, i) => i >= from && !line.startsWith('//'));
  return lines.slice(from, end).filter((line) => !line.startsWith('//   ')).length;
}

function codeLines(file: string): number {
  const code = read(file).replace(/\/\*[\s\S]*?\*\//g, '');
  return code.split('\n').filter((line) => !/^\s*(\/\/.*)?$/.test(line)).length;
}

/** Text outside of code blocks, where # and [] mean something else. */
function prose(file: string): string {
  return read(file).replace(/^```[\s\S]*?^```/gm, '');
}

describe('tidy: sources', () => {
  it('tidy: every file opens with 2 to 12 lines that say what it is (tests: from 1)', () => {
    const wrong = sources.filter((file) => {
      const lines = headerLines(file);
      return lines < (file.startsWith('test/') ? 1 : 2) || lines > 12;
    });
    expect(wrong, 'write a header comment: what it is, the idea, the invariant').to.deep.equal([]);
  });

  it('tidy: nothing is left unfinished', () => {
    const pattern = new RegExp(`\\b(${unfinished.join('|')})\\b`);
    const wrong = [...sources, ...documents].filter((file) => pattern.test(read(file)));
    expect(wrong, 'finish it, or describe the limit in the docs').to.deep.equal([]);
  });

  it('tidy: file names are kebab-case nouns that mean something', () => {
    const wrong = sources.filter((file) => {
      const name = path.basename(file).replace(/[.](d[.])?(ts|mjs)$/, '');
      return bannedNames.includes(name) || !/^[a-z0-9]+([-.][a-z0-9]+)*$/.test(name);
    });
    expect(wrong, 'name the file after the thing in it').to.deep.equal([]);
  });

  it(`tidy: no product file has over ${linesMax} lines of code`, () => {
    const long = sources
      .filter((file) => !file.startsWith('test/'))
      .map((file) => ({ file, lines: codeLines(file) }))
      .filter(({ lines }) => lines > linesMax);
    expect(long, 'split it by concern').to.deep.equal([]);
  });

  it('tidy: there are no default exports', () => {
    const wrong = sources.filter((file) => /^export default\b/m.test(read(file)));
    expect(wrong, 'export by name').to.deep.equal([]);
  });

  it('tidy: every actor runs in the plan', () => {
    const plan = existsSync(path.join(root, 'actors/node/plan.ts'))
      ? read('actors/node/plan.ts')
      : '';
    const missing = sources
      .filter((file) => file.endsWith('.actor.ts'))
      .filter((file) => !plan.includes(`'../${path.relative('actors', file)}'`));
    expect(missing, 'import it in actors/node/plan.ts').to.deep.equal([]);
  });

  it('tidy: only known files are kept in version control', () => {
    const listed = execFileSync('git', ['ls-files'], { cwd: root, encoding: 'utf8' });
    const wrong = listed
      .split('\n')
      .filter((file) => /(^|\/)(node_modules|dist|kvd-data|coverage)\//.test(file));
    expect(wrong, 'add it to .gitignore').to.deep.equal([]);
  });
});

describe('tidy: documents', () => {
  it('tidy: every Markdown file has exactly one title, in its first line', () => {
    const wrong = documents.filter((file) => {
      const titles = prose(file).match(/^# .+$/gm) ?? [];
      return titles.length !== 1 || !read(file).startsWith('# ');
    });
    expect(wrong, 'begin it with one "# title"').to.deep.equal([]);
  });

  it('tidy: no relative link is dead', () => {
    const dead = documents.flatMap((file) => {
      const links = [...prose(file).matchAll(/\]\(([^)#\s]+)(#[^)]*)?\)/g)].map(
        ([, target]) => target ?? '',
      );
      return links
        .filter((target) => !/^[a-z]+:/.test(target))
        .filter((target) => !existsSync(path.join(root, path.dirname(file), target)))
        .map((target) => `${file} -> ${target}`);
    });
    expect(dead, 'correct the link').to.deep.equal([]);
  });
});

describe('tidy: packages', () => {
  it('tidy: the lock file names no host to download from', () => {
    const lock = JSON.parse(read('package-lock.json')) as {
      packages: Record<string, { resolved?: string; integrity?: string }>;
    };
    const wrong = Object.entries(lock.packages)
      .filter(([, { resolved }]) => resolved !== undefined && /^[a-z+]+:/.test(resolved))
      .map(([name]) => name);
    expect(wrong, 'keep omit-lockfile-registry-resolved=true in .npmrc').to.deep.equal([]);
    const unchecked = Object.entries(lock.packages)
      .filter(([name, { integrity }]) => name !== '' && integrity === undefined)
      .map(([name]) => name);
    expect(unchecked, 'install it anew: it has no checksum').to.deep.equal([]);
  });

  it('tidy: versions of direct dependencies are exact', () => {
    const manifest = JSON.parse(read('package.json')) as Record<string, Record<string, string>>;
    const loose = ['dependencies', 'devDependencies', 'overrides']
      .flatMap((kind) => Object.entries(manifest[kind] ?? {}))
      .filter(([, version]) => !/^\d+[.]\d+[.]\d+$/.test(version));
    expect(loose, 'pin it').to.deep.equal([]);
  });
});
