// Numbers on the wire: unique, and never changed. test/golden/protocols.txt lists every message;
// run this with KVD_GOLDEN=write after adding one, and review the difference.

import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { allProtocols as allListed } from '../../actors/node/protocols.ts';
import type { FieldTable, Protocol } from '../../runtime/protocol.ts';

const golden = path.join(process.cwd(), 'test/golden/protocols.txt');
const actorsFolder = new URL('../../actors/', import.meta.url);

async function allProtocols(): Promise<Protocol[]> {
  const protocols: Protocol[] = [];
  for (const folder of readdirSync(actorsFolder).sort()) {
    const url = new URL(`${folder}/protocol.js`, actorsFolder);
    if (!existsSync(url)) continue;
    const exported = Object.values((await import(url.href)) as Record<string, unknown>);
    protocols.push(...exported.filter(isProtocol));
  }
  return protocols.sort((a, b) => a.id - b.id);
}

function isProtocol(value: unknown): value is Protocol {
  return typeof value === 'object' && value !== null && 'descriptors' in value;
}

const signs = { one: '', maybe: '?', many: '[]' } as const;

function written(fields: FieldTable): string {
  return fields
    .map(([name, type]) =>
      typeof type === 'string'
        ? `${name}:${type}`
        : `${name}:{${written(type.fields)}}${signs[type.times]}`,
    )
    .join(',');
}

/** One line per message: numbers, names, kind, lane and layout. */
function listing(protocols: readonly Protocol[]): string[] {
  return protocols.flatMap(({ id, name, descriptors }) =>
    [...descriptors.values()]
      .sort((a, b) => a.tag - b.tag)
      .map(({ tag, name: message, kind, lane, layout, replyLayout }) => {
        const parts = [`${id}.${tag}`, `${name}.${message}`, kind, lane];
        for (const fields of [layout, replyLayout])
          if (fields !== undefined) parts.push(written(fields));
        return parts.join(' ');
      }),
  );
}

function repeated<T>(items: readonly T[]): T[] {
  return items.filter((item, i) => items.indexOf(item) !== i);
}

describe('protocols', () => {
  it('protocols: numbers and names are unique', async () => {
    const protocols = await allProtocols();
    expect(protocols.length).to.be.above(5);
    expect(repeated(protocols.map(({ id }) => id))).to.deep.equal([]);
    expect(repeated(protocols.map(({ name }) => name))).to.deep.equal([]);
    for (const { name, descriptors } of protocols) {
      const tags = [...descriptors.values()].map(({ tag }) => tag);
      expect(repeated(tags), `tags of ${name}`).to.deep.equal([]);
    }
  });

  it('protocols: actors/node/protocols.ts lists them all, in the order of their numbers', async () => {
    const listed = allListed.map(({ id, name }) => `${id} ${name}`);
    expect(listed).to.deep.equal((await allProtocols()).map(({ id, name }) => `${id} ${name}`));
  });

  it('protocols: what is on the wire is what test/golden/protocols.txt says', async () => {
    const lines = listing(await allProtocols());
    if (process.env['KVD_GOLDEN'] === 'write') {
      mkdirSync(path.dirname(golden), { recursive: true });
      writeFileSync(golden, `${lines.join('\n')}\n`);
    }
    expect(readFileSync(golden, 'utf8').trimEnd().split('\n')).to.deep.equal(lines);
  });
});
