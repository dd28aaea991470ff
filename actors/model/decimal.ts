// Adds decimal numbers as people write them: 0.1 and 0.2 are 0.3, which binary fractions cannot say.
// Sums are exact up to 17 digits behind the point, and are printed without an exponent, as clients of
// the Redis protocol expect them.

/** Digits behind the point; what is beyond is rounded. */
const decimalsMax = 17;
/** A longer text is taken at the precision of a double, so that nobody pays for its digits. */
const exactLengthMax = 64;

const form = /^([+-]?)(\d*)\.?(\d*)(?:[eE]([+-]?\d+))?$/;

/** `digits` divided by ten to the power of `scale`. */
interface Decimal {
  readonly digits: bigint;
  readonly scale: number;
}

/** Of a number that is finite as a double. */
function decimalOf(text: string): Decimal {
  const isExact = text.length <= exactLengthMax && !/e/i.test(text);
  const [, sign = '', whole = '', part = '', exponent = '0'] =
    form.exec(isExact ? text : String(Number(text))) ?? [];
  const scale = part.length - Number(exponent);
  const digits = BigInt(`${whole}${part}`) * (sign === '-' ? -1n : 1n);
  return scale >= 0 ? { digits, scale } : { digits: digits * tenTo(-scale), scale: 0 };
}

const tenTo = (power: number): bigint => 10n ** BigInt(power);

/** Half away from zero. */
function rounded({ digits, scale }: Decimal): Decimal {
  if (scale <= decimalsMax) return { digits, scale };
  const unit = tenTo(scale - decimalsMax);
  const half = digits < 0n ? -unit / 2n : unit / 2n;
  return { digits: (digits + half) / unit, scale: decimalsMax };
}

function textOf({ digits, scale }: Decimal): string {
  const sign = digits < 0n ? '-' : '';
  const all = String(digits < 0n ? -digits : digits).padStart(scale + 1, '0');
  const part = all.slice(all.length - scale).replace(/0+$/, '');
  const whole = all.slice(0, all.length - scale);
  return scale === 0 || part === '' ? `${sign}${whole}` : `${sign}${whole}.${part}`;
}

/** The sum of a decimal text and a number, as text; both are finite as doubles. */
export function sumText(text: string, delta: number): string {
  const a = decimalOf(text);
  const b = decimalOf(String(delta));
  const scale = Math.max(a.scale, b.scale);
  const digits = a.digits * tenTo(scale - a.scale) + b.digits * tenTo(scale - b.scale);
  return textOf(rounded({ digits, scale }));
}
