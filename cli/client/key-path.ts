// The path of a key. A key of dots alone would be taken for a step in the path by anything between
// here and the node, so its dots are encoded too.

export const keyPath = (key: string): string =>
  `/api/v1/keys/${encodeURIComponent(key).replace(/^\.+$/, (dots) => dots.replaceAll('.', '%2E'))}`;
