// Reads snapshots of running nodes over HTTP: their manifests, and their tables part by part, each
// from the node that has it.

import { decodeSnapshot, type SnapshotManifest } from '../../actors/storage/snapshot-format.ts';
import { CorruptionError } from '../../runtime/errors.ts';
import { HttpClient, type HttpClientOptions } from '../client/http-client.ts';
import type { BackupTable } from './backup-format.ts';

/** One request: large enough to be fast, small enough to be read in a moment. */
const partBytes = 1024 * 1024;
const path = '/api/v1/admin/snapshots';

export class RemoteSnapshot {
  readonly #name: string;
  readonly #clients: ReadonlyMap<string, HttpClient>;

  /** `urls`: of each node; `terms`: what requests carry, whom they believe, how long they may take. */
  constructor(
    name: string,
    urls: ReadonlyMap<string, string>,
    terms: Pick<HttpClientOptions, 'headers' | 'tls' | 'deadlineMs'>,
  ) {
    this.#name = name;
    this.#clients = new Map(
      [...urls].map(([node, url]) => [node, new HttpClient({ ...terms, endpoints: [url] })]),
    );
  }

  close(): void {
    for (const client of this.#clients.values()) client.close();
  }

  /** A ClientError where the node does not answer. */
  async manifestOf(node: string): Promise<SnapshotManifest> {
    const { body } = await this.#get(node, `${path}/${this.#name}`);
    return decodeSnapshot(`snapshot ${this.#name} of ${node}`, new Uint8Array(body));
  }

  async *chunks({ node, shard, meta }: BackupTable): AsyncGenerator<Uint8Array> {
    const { fileNumber, bytes } = meta;
    const table = `${path}/${this.#name}/tables/${shard}/${fileNumber}`;
    for (let at = 0; at < bytes; ) {
      const { body } = await this.#get(node, `${table}?offset=${at}&length=${partBytes}`);
      if (body.length === 0)
        throw new CorruptionError(`table ${fileNumber} of ${node}`, at, 'the file is cut short');
      at += body.length;
      yield new Uint8Array(body.buffer, body.byteOffset, body.length);
    }
  }

  async #get(node: string, url: string): Promise<{ readonly body: Buffer }> {
    const client = this.#clients.get(node);
    if (client === undefined) throw new Error(`no address of ${node}`);
    return client.call({ method: 'GET', path: url, isIdempotent: true, isWrite: false });
  }
}
