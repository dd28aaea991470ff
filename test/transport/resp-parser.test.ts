// The parser of the Redis protocol: the same commands however the stream is cut, every limit at its
// last good value and the first bad one, and no input that breaks it.

import { expect } from 'chai';
import fc from 'fast-check';
import { arrayOverheadBytes } from '../../runtime/bytes.ts';
import {
  inlineBytesMax,
  limitsBeforeLogin,
  type ParsedCommand,
  RespParser,
} from '../../transport/resp-parser.ts';

const limits = { bulkBytes: 100, commandBytes: 250, arguments: 8 };
const latin1 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'latin1'));
const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');

interface Outcome {
  readonly commands: readonly string[];
  readonly problem: string | undefined;
}

const shown = ({ args, isTooLarge }: ParsedCommand): string =>
  args.map(textOf).join('|') + (isTooLarge ? ' (too large)' : '');

/** Feeds the chunks one by one and reads what each one completes. */
function parse(chunks: readonly Uint8Array[], parser = new RespParser(limits)): Outcome {
  const commands: string[] = [];
  for (const chunk of chunks) {
    parser.feed(chunk);
    for (let one = parser.read(); one !== undefined; one = parser.read()) commands.push(shown(one));
  }
  return { commands, problem: parser.problem };
}

const parseText = (text: string): Outcome => parse([latin1(text)]);

/** Cuts at the given places, modulo what is there. */
function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const at = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
  return [...at, bytes.length].map((end, i) => bytes.subarray(i === 0 ? 0 : at[i - 1], end));
}

function encode(args: readonly Uint8Array[]): Uint8Array {
  const parts = args.flatMap((arg) => [latin1(`$${arg.length}\r\n`), arg, latin1('\r\n')]);
  return new Uint8Array(Buffer.concat([latin1(`*${args.length}\r\n`), ...parts]));
}

const anArgument = fc.uint8Array({ maxLength: 90 });
const aCommand = fc.array(anArgument, { minLength: 1, maxLength: 2 });

describe('resp parser', () => {
  it('resp parser: any commands come out as they went in, wherever the stream is cut', () => {
    fc.assert(
      fc.property(
        fc.array(aCommand, { maxLength: 12 }),
        fc.array(fc.nat(5000), { maxLength: 30 }),
        (commands, places) => {
          const bytes = new Uint8Array(Buffer.concat(commands.map(encode)));
          const { commands: found, problem } = parse(cut(bytes, places));
          expect(problem).to.equal(undefined);
          expect(found).to.deep.equal(commands.map((args) => args.map(textOf).join('|')));
        },
      ),
      { numRuns: 300 },
    );
  });

  it('resp parser: byte by byte, every state waits for more', () => {
    const text = '*2\r\n$3\r\nGET\r\n$1\r\na\r\nPING  "x y"\r\n\r\n*0\r\n*1\r\n$0\r\n\r\n';
    const bytes = latin1(text);
    const chunks = [...bytes].map((_, i) => bytes.slice(i, i + 1));
    const expected = { commands: ['GET|a', 'PING|x y', ''], problem: undefined };
    expect(parse(chunks)).to.deep.equal(expected);
    expect(parse([bytes])).to.deep.equal(expected);
  });

  it('resp parser: an argument in many small chunks is copied a few times, not each time', () => {
    const parser = new RespParser({ ...limits, bulkBytes: 4_000_000, commandBytes: 5_000_000 });
    const value = new Uint8Array(4_000_000).fill(7);
    const bytes = encode([latin1('x'), value]);
    const chunks: Uint8Array[] = [];
    for (let at = 0; at < bytes.length; at += 1000) chunks.push(bytes.subarray(at, at + 1000));
    let found: ParsedCommand | undefined;
    for (const chunk of chunks) {
      parser.feed(chunk);
      found ??= parser.read();
    }
    expect(Buffer.compare(found?.args[1] ?? new Uint8Array(0), value)).to.equal(0);
    expect(parser.heldBytes).to.equal(0);
  });

  for (const [name, text, problem] of [
    ['a count over the limit', '*9\r\n', 'invalid multibulk length'],
    ['a negative count', '*-1\r\n', 'invalid multibulk length'],
    ['a count with a sign', '*+1\r\n', 'invalid multibulk length'],
    ['a count with a leading zero', '*01\r\n', 'invalid multibulk length'],
    ['a count that is no number', '*1x\r\n', 'invalid multibulk length'],
    ['no count', '*\r\n', 'invalid multibulk length'],
    ['a count without end', `*${'1'.repeat(20)}`, 'invalid multibulk length'],
    ['a count that ends in CR only', '*1\rx', 'invalid multibulk length'],
    ['another type in an array', '*1\r\n:1\r\n', "expected '$', got ':'"],
    ['an array in an array', '*1\r\n*1\r\n', "expected '$', got '*'"],
    ['a control byte for a type', '*1\r\n\x01', "expected '$', got '\\x1'"],
    ['a negative length', '*1\r\n$-1\r\n', 'invalid bulk length'],
    ['a length beyond 512 MiB', '*1\r\n$536870913\r\n', 'invalid bulk length'],
    ['a length of eleven digits', '*1\r\n$99999999999\r\n', 'invalid bulk length'],
    ['bytes after an argument', '*1\r\n$1\r\naXY', 'expected CRLF after an argument'],
    ['an open quote', 'get "a\r\n', 'unbalanced quotes in request'],
    ['letters after a quote', 'get "a"b\r\n', 'unbalanced quotes in request'],
  ] as const)
    it(`resp parser: ${name} is a protocol error, and nothing is read after it`, () => {
      const parser = new RespParser(limits);
      const expected = { commands: ['PING'], problem: `Protocol error: ${problem}` };
      expect(parse([latin1(`PING\r\n${text}`)], parser)).to.deep.equal(expected);
      expect(parse([latin1('PING\r\n')], parser).commands).to.deep.equal([]);
      expect(parser.heldBytes).to.be.at.most(6);
    });

  it('resp parser: an argument at the limit is taken, one above is passed over and marked', () => {
    const good = 'a'.repeat(100);
    const bad = 'b'.repeat(101);
    const text = `*2\r\n$1\r\nx\r\n$100\r\n${good}\r\n*3\r\n$1\r\ny\r\n$101\r\n${bad}\r\n$1\r\nz\r\nPING\r\n`;
    const expected = { commands: [`x|${good}`, 'y|z (too large)', 'PING'], problem: undefined };
    expect(parseText(text)).to.deep.equal(expected);
    const bytes = latin1(text);
    expect(parse([...bytes].map((_, i) => bytes.slice(i, i + 1)))).to.deep.equal(expected);
  });

  it('resp parser: a command over its limit is passed over, whatever its arguments are', () => {
    const part = `$83\r\n${'c'.repeat(83)}\r\n`;
    expect(parseText(`*3\r\n${part.repeat(3)}PING\r\n`).commands).to.have.length(2);
    const found = parseText(`*4\r\n${part.repeat(4)}PING\r\n`);
    expect(found.commands[0]?.endsWith('(too large)')).to.equal(true);
    expect(found.commands[1]).to.equal('PING');
  });

  const word = limitsBeforeLogin.bulkBytes;
  const tooMany =
    'Protocol error: unauthenticated multibulk length: expected at most 10 words in a command before AUTH';
  const tooLong =
    'Protocol error: unauthenticated bulk length: expected words of at most 16384 bytes before AUTH';
  for (const [name, text, outcome] of [
    ['ten words', `*10\r\n${'$1\r\na\r\n'.repeat(10)}`, Array(10).fill('a').join('|')],
    ['eleven words', '*11\r\n', tooMany],
    ['words beyond any number', '*9999999999\r\n', tooMany],
    ['a count that is none', '*-1\r\n', 'Protocol error: invalid multibulk length'],
    ['ten words inline', `${'a '.repeat(10)}\r\n`, Array(10).fill('a').join('|')],
    ['eleven words inline', `${'a '.repeat(11)}\r\n`, tooMany],
    ['a word of 16 KiB', `*1\r\n$16384\r\n${'a'.repeat(word)}\r\n`, 'a'.repeat(word)],
    ['a longer word, of which nothing has come', '*1\r\n$16385\r\n', tooLong],
    ['a word of 16 KiB inline', `${'a'.repeat(word)}\r\n`, 'a'.repeat(word)],
    ['a longer word inline', `"${'a'.repeat(word + 1)}"\r\n`, tooLong],
  ] as const)
    it(`resp parser: before a login, ${name}`, () => {
      const { commands, problem } = parse([latin1(text)], new RespParser(limitsBeforeLogin));
      expect(problem ?? commands.join('&')).to.equal(outcome);
    });

  it('resp parser: ten words of 16 KiB are a command before a login', () => {
    const text = `*10\r\n${`$16384\r\n${'a'.repeat(word)}\r\n`.repeat(10)}`;
    expect(parse([latin1(text)], new RespParser(limitsBeforeLogin)).problem).to.equal(undefined);
  });

  it('resp parser: other limits hold from the next command on', () => {
    const parser = new RespParser({ ...limits, arguments: 20 });
    const command = `*11\r\n${'$1\r\na\r\n'.repeat(11)}`;
    expect(parse([latin1(command.slice(0, 20))], parser)).to.deep.equal({
      commands: [],
      problem: undefined,
    });
    parser.limit(limitsBeforeLogin);
    const rest = parse([latin1(command.slice(20) + command)], parser);
    expect(rest).to.deep.equal({ commands: [Array(11).fill('a').join('|')], problem: tooMany });
  });

  it('resp parser: a huge argument is passed over without being kept', () => {
    const parser = new RespParser(limits);
    parser.feed(latin1('*2\r\n$3\r\nSET\r\n$536870912\r\n'));
    const chunk = new Uint8Array(65_536);
    for (let sent = 0; sent < 536_870_912; sent += chunk.length) {
      expect(parser.read()).to.equal(undefined);
      expect(parser.heldBytes).to.be.at.most(chunk.length + 3 + arrayOverheadBytes);
      parser.feed(chunk);
    }
    parser.feed(latin1('\r\nPING\r\n'));
    expect(parse([], parser).problem).to.equal(undefined);
    expect(shown(parser.read() as ParsedCommand)).to.equal('SET (too large)');
    expect(shown(parser.read() as ParsedCommand)).to.equal('PING');
  });

  it('resp parser: empty arguments of a half command are counted, too', () => {
    const parser = new RespParser({ ...limits, arguments: 1000 });
    parser.feed(latin1(`*1000\r\n${'$0\r\n\r\n'.repeat(999)}`));
    expect(parser.read()).to.equal(undefined);
    expect(parser.heldBytes).to.equal(999 * arrayOverheadBytes);
  });

  it('resp parser: a declared length alone makes it keep nothing', () => {
    const parser = new RespParser({ ...limits, bulkBytes: 1_000_000_000, commandBytes: 1e9 });
    const before = process.memoryUsage().arrayBuffers;
    parser.feed(latin1('*2\r\n$3\r\nSET\r\n$500000000\r\nab'));
    expect(parser.read()).to.equal(undefined);
    expect(parser.heldBytes).to.equal(5 + arrayOverheadBytes);
    expect(process.memoryUsage().arrayBuffers - before).to.be.below(10_000_000);
  });

  it('resp parser: an inline line at the limit is taken, a longer one is not', () => {
    const line = 'x'.repeat(inlineBytesMax);
    expect(parseText(`${line}\n`).commands).to.deep.equal([line]);
    expect(parseText(`x${line}\n`).problem).to.equal('Protocol error: too big inline request');
    expect(parseText(`x${line}`).problem).to.equal('Protocol error: too big inline request');
    expect(parseText(line).problem).to.equal(undefined);
  });

  for (const [line, words] of [
    ['set a b', ['set', 'a', 'b']],
    ['  set\t a   b  ', ['set', 'a', 'b']],
    ['set "a b" \'c d\'', ['set', 'a b', 'c d']],
    ['set "\\x41\\n\\"" \'\\\'\\n\'', ['set', 'A\n"', "'\\n"]],
    ['set "" \'\'', ['set', '', '']],
    ['set "\\xZZ"', ['set', 'xZZ']],
  ] as const)
    it(`resp parser: an inline command has the words that Redis finds (${line})`, () => {
      expect(parseText(`${line}\r\n`).commands).to.deep.equal([words.join('|')]);
      expect(parseText(`${line}\n`).commands).to.deep.equal([words.join('|')]);
    });

  it('resp parser: arguments do not change when more bytes come', () => {
    const parser = new RespParser({ ...limits, bulkBytes: 1000, commandBytes: 10_000 });
    const value = (n: number): Uint8Array => new Uint8Array(200).fill(n);
    const stream = new Uint8Array(
      Buffer.concat(Array.from({ length: 200 }, (_, n) => encode([value(n % 251)]))),
    );
    const found: ParsedCommand[] = [];
    for (let at = 0; at < stream.length; at += 333) {
      parser.feed(stream.slice(at, at + 333));
      for (let one = parser.read(); one !== undefined; one = parser.read()) found.push(one);
    }
    expect(found).to.have.length(200);
    found.forEach(({ args }, n) => {
      expect(Buffer.compare(args[0] as Uint8Array, value(n % 251))).to.equal(0);
    });
  });

  it('resp parser: mutated streams never throw and never hold more than they may', () => {
    const stream = Buffer.concat([
      ...[0, 1, 5, 60, 65, 90].map((n) => encode([latin1('SET'), new Uint8Array(n).fill(65)])),
      latin1('PING\r\nget "a b"\r\n'),
    ]);
    const mutation = fc.record({ at: fc.nat(stream.length - 1), byte: fc.nat(255) });
    fc.assert(
      fc.property(
        fc.array(mutation, { minLength: 1, maxLength: 6 }),
        fc.array(fc.nat(1000), { maxLength: 10 }),
        (mutations, places) => {
          const bytes = new Uint8Array(stream);
          for (const { at, byte } of mutations) bytes[at] = byte;
          const whole = parse([bytes]);
          const parser = new RespParser(limits);
          // However it is cut, the outcome is one.
          expect(parse(cut(bytes, places), parser)).to.deep.equal(whole);
          // No argument is shorter than its header.
          expect(parser.heldBytes).to.be.at.most(bytes.length * (1 + arrayOverheadBytes / 6));
        },
      ),
      { numRuns: 500 },
    );
  });
});
