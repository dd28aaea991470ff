// Addresses of clients for limits: what one client can change at will counts as one address. Of IPv6
// that is all below a /64 (RFC 6177); an IPv4 address in the form of IPv6 is the IPv4 address.

const mapped = /^::ffff:(\d{1,3}(?:\.\d{1,3}){3})$/i;

export function addressGroup(address: string): string {
  const ipv4 = mapped.exec(address)?.[1];
  if (ipv4 !== undefined) return ipv4;
  if (!address.includes(':')) return address;
  const [plain = ''] = address.split('%', 1);
  const [head = '', tail] = plain.split('::', 2);
  const left = head === '' ? [] : head.split(':');
  // The part after `::` ends at the last of eight groups.
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - left.length - right.length);
  const groups = [...left, ...Array<string>(zeros).fill('0'), ...right];
  return `${groups
    .slice(0, 4)
    .map((group) => group.toLowerCase().replace(/^0+(?=.)/, ''))
    .join(':')}::/64`;
}

/** Of `address:port`. */
export function addressOf(remote: string): string {
  const at = remote.lastIndexOf(':');
  return at < 0 ? remote : remote.slice(0, at);
}
