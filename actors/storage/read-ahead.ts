// A disk for readers of tables: a file that is read in order is read in larger and larger pieces,
// up to 256 KiB, so that a scan or a merge costs one read of the disk for many blocks, also where it
// leaves out some that a cache has. Anything else goes through as it is; a look-up reads what it needs
// and no more, but for one just ahead of a scan.
//
// Tables never change, so what was read ahead stays right. Each file holds at most one piece, and
// none after it was read elsewhere.

import { noBytes } from '../../runtime/bytes.ts';
import type { Disk, DiskFile } from '../../runtime/environment.ts';
import { CorruptionError } from '../../runtime/errors.ts';

const aheadBytesMin = 64 * 1024;
const aheadBytesMax = 256 * 1024;
/** So many reads that follow each other are a scan. */
const inOrder = 2;
/** A scan may leave out so many bytes at a time. */
const gapBytesMax = 64 * 1024;

interface Piece {
  readonly at: number;
  readonly bytes: Uint8Array;
}

/** As `disk`, for files that are opened for reading and do not change. */
export function readAheadDisk(disk: Disk): Disk {
  return {
    ...disk,
    open: (path, mode) => {
      const file = disk.open(path, mode);
      return mode === 'read' ? readAhead(file) : file;
    },
  };
}

function readAhead(file: DiskFile): DiskFile {
  const { path } = file;
  let piece: Piece | undefined;
  /** Of the piece and the next ones. */
  let memory = noBytes;
  let nextAt = -1;
  let run = 0;
  const fromPiece = (target: Uint8Array, position: number): boolean => {
    if (piece === undefined) return false;
    const from = position - piece.at;
    if (from < 0 || from + target.length > piece.bytes.length) return false;
    target.set(piece.bytes.subarray(from, from + target.length));
    return true;
  };
  const read = (target: Uint8Array, position: number): number => {
    const gap = position - nextAt;
    run = gap === 0 || (piece !== undefined && gap > 0 && gap <= gapBytesMax) ? run + 1 : 0;
    nextAt = position + target.length;
    if (run < inOrder) {
      piece = undefined;
      memory = noBytes;
      return file.read(target, position);
    }
    if (fromPiece(target, position)) return target.length;
    const wanted = Math.min((piece?.bytes.length ?? aheadBytesMin / 2) * 2, aheadBytesMax);
    const length = Math.min(wanted, file.size() - position);
    if (length <= target.length) return file.read(target, position);
    if (memory.length < length) memory = new Uint8Array(length);
    piece = pieceAt(file, position, memory.subarray(0, length));
    return fromPiece(target, position) ? target.length : file.read(target, position);
  };
  return {
    path,
    size: file.size,
    write: file.write,
    read,
    sync: file.sync,
    truncate: file.truncate,
    close: () => {
      piece = undefined;
      memory = noBytes;
      file.close();
    },
  };
}

/** Undefined: something in it cannot be read, and nobody may have asked for that. */
function pieceAt(file: DiskFile, at: number, bytes: Uint8Array): Piece | undefined {
  try {
    return { at, bytes: bytes.subarray(0, file.read(bytes, at)) };
  } catch (error) {
    if (error instanceof CorruptionError) return undefined;
    throw error;
  }
}
