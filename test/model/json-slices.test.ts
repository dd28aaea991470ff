// The scanner against JSON.parse, which it must agree with on every document within its depth.

import { expect } from 'chai';
import fc from 'fast-check';
import { elementSlices, jsonDepthMax, memberSlices } from '../../actors/model/json-slices.ts';
import { utf8 } from '../../runtime/bytes.ts';
import { KvError } from '../../runtime/errors.ts';

const parsesAsObject = (text: string): boolean => {
  try {
    const value = JSON.parse(text) as unknown;
    return typeof value === 'object' && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
};

function refusal(run: () => unknown): KvError {
  try {
    run();
  } catch (error) {
    if (error instanceof KvError) return error;
    throw error;
  }
  throw new Error('it was accepted');
}

const accepts = (bytes: Uint8Array): boolean => {
  try {
    memberSlices(bytes);
    return true;
  } catch (error) {
    if (error instanceof KvError && error.code === 'BAD_REQUEST') return false;
    throw error;
  }
};

function slicedValues(text: string): [string, unknown][] {
  const bytes = utf8.encode(text);
  return [...memberSlices(bytes)].map(([name, { start, end }]) => [
    name,
    JSON.parse(utf8.decode(bytes.subarray(start, end))) as unknown,
  ]);
}

/** Text near JSON: a document with a few characters replaced. */
const nearJson = fc
  .tuple(
    fc.json({ maxDepth: 4 }),
    fc.array(fc.tuple(fc.nat(200), fc.constantFrom(...'{}[],:"\\0e+-.tfn \t\u0000é'.split('')))),
  )
  .map(([text, edits]) => {
    const characters = `{"a":${text}}`.split('');
    for (const [at, character] of edits) characters[at % characters.length] = character;
    return characters.join('');
  });

describe('json-slices', () => {
  it('json-slices: members of any document parse to the values of JSON.parse', () => {
    const names = fc.uniqueArray(fc.string({ unit: 'binary' }), { maxLength: 6 });
    const document = names.chain((keys) =>
      fc.tuple(...keys.map((key) => fc.jsonValue({ maxDepth: 5 }).map((v) => [key, v] as const))),
    );
    fc.assert(
      fc.property(document, fc.boolean(), (members, isSpaced) => {
        const text = JSON.stringify(Object.fromEntries(members), null, isSpaced ? 2 : 0);
        const parsed = JSON.parse(text) as Record<string, unknown>;
        const expected = Object.entries(parsed).map(([name, v]): [string, unknown] => [name, v]);
        expect(slicedValues(text)).to.deep.equal(expected.sort(byDocument(text)));
      }),
    );
  });

  it('json-slices: elements of any list parse to the values of JSON.parse', () => {
    fc.assert(
      fc.property(fc.array(fc.jsonValue({ maxDepth: 5 })), (list) => {
        const bytes = utf8.encode(JSON.stringify(list, null, 1));
        const values = elementSlices(bytes).map(
          ({ start, end }) => JSON.parse(utf8.decode(bytes.subarray(start, end))) as unknown,
        );
        expect(values).to.deep.equal(JSON.parse(JSON.stringify(list)));
      }),
    );
  });

  it('json-slices: damaged text is accepted exactly where JSON.parse accepts it', () => {
    let accepted = 0;
    fc.assert(
      fc.property(nearJson, (text) => {
        const expected = parsesAsObject(text) && !repeatsName(text);
        if (expected) accepted += 1;
        expect(accepts(utf8.encode(text)), text).to.equal(expected);
      }),
      { numRuns: 3000 },
    );
    expect(accepted).to.be.greaterThan(100);
  });

  it('json-slices: any bytes are accepted exactly where strict UTF-8 and JSON.parse accept them', () => {
    const piece = fc.oneof(
      fc.constantFrom(0xc3, 0xa9, 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0x98, 0x80, 0xed, 0xa0, 0xf4, 0x90),
      fc.integer({ min: 0x20, max: 0xff }),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 5 }), (pieces) => {
        const bytes = Uint8Array.from([...utf8.encode('{"a":"'), ...pieces, ...utf8.encode('"}')]);
        const text = utf8.decodeStrict(bytes);
        expect(accepts(bytes)).to.equal(
          text !== undefined && parsesAsObject(text) && !repeatsName(text),
        );
      }),
      { numRuns: 5000 },
    );
  });

  it('json-slices: a value keeps its text byte for byte', () => {
    const value = '{ "b" : 9007199254740993,  "a": 1.0e+2, "2":0, "1" :-0 }';
    const bytes = utf8.encode(`\n{"value" :  ${value}\t,"__proto__":{"polluted":true}}  `);
    const members = memberSlices(bytes);
    const { start, end } = members.get('value') as { start: number; end: number };
    expect(utf8.decode(bytes.subarray(start, end))).to.equal(value);
    expect([...members.keys()]).to.deep.equal(['value', '__proto__']);
    expect(({} as { polluted?: boolean }).polluted).to.equal(undefined);
  });

  it('json-slices: a name that repeats is refused, also when it is written with escapes', () => {
    const { fields } = refusal(() => memberSlices(utf8.encode('{"value":1,"va\\u006cue":2}')));
    expect(fields['position']).to.equal(11);
    expect(fields['detail']).to.contain('"value" again');
  });

  it(`json-slices: ${jsonDepthMax} levels are accepted and one more is refused`, () => {
    const nested = (levels: number): Uint8Array =>
      utf8.encode(`{"v":${'['.repeat(levels)}${']'.repeat(levels)}}`);
    expect(memberSlices(nested(jsonDepthMax)).size).to.equal(1);
    expect(refusal(() => memberSlices(nested(jsonDepthMax + 1))).fields['position']).to.equal(
      5 + jsonDepthMax,
    );
    expect(refusal(() => memberSlices(nested(100_000))).code).to.equal('BAD_REQUEST');
  });

  const broken: readonly (readonly [string, number, string])[] = [
    ['', 0, 'expected an object, it ends'],
    ['[1]', 0, 'expected an object, found "["'],
    ['{"a" 1}', 5, 'expected ":", found "1"'],
    ['{"a":01}', 6, 'expected "," or "}", found "1"'],
    ['{"a":1,}', 7, 'expected a string, found "}"'],
    ['{"a":tru}', 8, 'expected "true", found "}"'],
    ['{"a":1.}', 7, 'expected a digit, found "}"'],
    ['{"a":"\\x"}', 7, 'backslash, found "x"'],
    ['{"a":"\\u12g4"}', 10, 'four hexadecimal digits, found "g"'],
    ['{"a":"x', 7, 'expected the end of a string, it ends'],
    ['{"a":"\n"}', 6, 'control character, found 0x0a'],
    ['{"a":1}x', 7, 'expected the end, found "x"'],
    ['{"a":NaN}', 5, 'expected a value, found "N"'],
    ["{'a':1}", 1, 'expected a string, found "\'"'],
  ];
  for (const [text, position, detail] of broken)
    it(`json-slices: ${JSON.stringify(text)} is refused at byte ${position}`, () => {
      const { code, fields } = refusal(() => memberSlices(utf8.encode(text)));
      expect(code).to.equal('BAD_REQUEST');
      expect(fields['position']).to.equal(position);
      expect(fields['detail']).to.contain(detail);
    });
});

/** JSON.parse puts names that look like numbers first; the document has its own order. */
function byDocument(text: string): (a: [string, unknown], b: [string, unknown]) => number {
  const order = new Map([...memberSlices(utf8.encode(text)).keys()].map((name, i) => [name, i]));
  return ([a], [b]) => (order.get(a) ?? 0) - (order.get(b) ?? 0);
}

/** The naive model of "a name of the outer object repeats": by a reviver that sees no repeats. */
function repeatsName(text: string): boolean {
  const { length } = Object.keys(JSON.parse(text) as object);
  return outerColons(text) !== length;
}

/** Colons at depth one outside of strings: members as they are written. */
function outerColons(text: string): number {
  let depth = 0;
  let colons = 0;
  let isInString = false;
  for (let i = 0; i < text.length; i += 1) {
    const character = text.charAt(i);
    if (isInString) {
      if (character === '\\') i += 1;
      else if (character === '"') isInString = false;
    } else if (character === '"') isInString = true;
    else if (character === '{' || character === '[') depth += 1;
    else if (character === '}' || character === ']') depth -= 1;
    else if (character === ':' && depth === 1) colons += 1;
  }
  return colons;
}
