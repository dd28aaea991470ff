// Standard base64 with padding (RFC 4648 section 4) between bytes and ASCII bytes, for values that
// are raw bytes inside of JSON. Bytes to bytes: an answer is put together without making strings.

const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
const padding = 0x3d;
const none = 0xff;

const digits = Uint8Array.from(alphabet, (digit) => digit.charCodeAt(0));
const values = new Uint8Array(256).fill(none);
digits.forEach((digit, value) => {
  values[digit] = value;
});

/** The text as ASCII bytes; its length is a multiple of 4. */
export function encodeBase64(bytes: Uint8Array): Uint8Array {
  const text = new Uint8Array(Math.ceil(bytes.length / 3) * 4).fill(padding);
  let at = 0;
  for (let i = 0; i < bytes.length; i += 3) {
    const left = bytes.length - i;
    const a = bytes[i] as number;
    const b = bytes[i + 1] ?? 0;
    const c = bytes[i + 2] ?? 0;
    text[at] = digits[a >> 2] as number;
    text[at + 1] = digits[((a & 3) << 4) | (b >> 4)] as number;
    if (left > 1) text[at + 2] = digits[((b & 15) << 2) | (c >> 6)] as number;
    if (left > 2) text[at + 3] = digits[c & 63] as number;
    at += 4;
  }
  return text;
}

/** Undefined where the text is not padded base64 in its one canonical form. */
export function decodeBase64(text: Uint8Array): Uint8Array | undefined {
  if (text.length % 4 !== 0) return undefined;
  let padded = 0;
  while (padded < 2 && text[text.length - 1 - padded] === padding) padded += 1;
  const length = text.length - padded;
  const bytes = new Uint8Array((text.length / 4) * 3 - padded);
  let held = 0;
  let bits = 0;
  let at = 0;
  for (let i = 0; i < length; i += 1) {
    const value = values[text[i] as number] as number;
    if (value === none) return undefined;
    held = ((held << 6) | value) & 0xff_ffff;
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    bytes[at] = (held >> bits) & 0xff;
    at += 1;
  }
  // Bits left over must be zero: one value, one text.
  return (held & ((1 << bits) - 1)) === 0 ? bytes : undefined;
}
