// Reads a file that was extended ahead. Only up to its last byte that is not zero is it read: what is
// behind is as the array was made, and memory that nobody wrote to takes no place, so an almost empty
// segment of 64 MiB costs what is in it.

import type { Disk, DiskFile } from '../../runtime/environment.ts';

const chunkBytes = 256 * 1024;

/** All bytes of the file. NOT_FOUND where it is missing. */
export function readContent(disk: Disk, path: string): Uint8Array {
  const file = disk.open(path, 'read');
  try {
    const bytes = new Uint8Array(file.size());
    const end = contentEnd(file);
    if (end > 0) file.read(bytes.subarray(0, end), 0);
    return bytes;
  } finally {
    file.close();
  }
}

/** The end of the last chunk that holds a byte other than zero. */
function contentEnd(file: DiskFile): number {
  const size = file.size();
  const words = new Int32Array(chunkBytes / 4);
  const chunk = new Uint8Array(words.buffer);
  for (let at = size - (size % chunkBytes); at >= 0; at -= chunkBytes) {
    // Chunks before this one were zeros, so what a short read leaves as it was is zeros too.
    const length = Math.min(chunkBytes, size - at);
    file.read(chunk.subarray(0, length), at);
    for (let i = 0; i < words.length; i += 1) if (words[i] !== 0) return at + length;
  }
  return 0;
}
