// Copies a stream of bytes to a file so that it is there whole or not at all: a temporary name,
// synced, judged, renamed. The caller syncs the directory.

import type { Disk } from '../../runtime/environment.ts';
import { syncFile } from '../../runtime/files.ts';

/** `judge` gets the path of the synced copy and throws where it is not what it should be. */
export async function copyTo(
  disk: Disk,
  path: string,
  chunks: AsyncIterable<Uint8Array>,
  judge: (copy: string) => void,
): Promise<void> {
  const temporary = `${path}.tmp`;
  disk.remove(temporary);
  const file = disk.open(temporary, 'create');
  try {
    let at = 0;
    for await (const chunk of chunks) {
      file.write(chunk, at);
      at += chunk.length;
    }
    await syncFile(file);
    file.close();
    judge(temporary);
    disk.rename(temporary, path);
  } catch (error) {
    file.close();
    disk.remove(temporary);
    throw error;
  }
}
