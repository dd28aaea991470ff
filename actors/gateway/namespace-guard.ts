// What a gateway knows of the namespaces, and what it asks before a request on a key goes out: that
// its namespace is there, and how long the namespace lets a value live. The lifetime is fixed here
// once; the coordinator turns it into the moment that is stored (TTL-1).
//
// A copy of the catalog may be behind. Whoever meets a namespace that is not in it asks for what the
// cluster has decided before it says so to a client.

import { type BaseContext, type Done, type Ref } from '../../runtime/actor.ts';
import { type Failure, failure, KvError } from '../../runtime/errors.ts';
import type { Catalog, CatalogBytes } from '../catalog/protocol.ts';
import {
  checkTtl,
  decodeCatalog,
  firstNamespaces,
  hasSizeQuota,
  type Namespace,
  Namespaces,
  noSuchNamespace,
  systemNamespace,
  type Usage,
  usualTtlMs,
} from '../model/namespaces.ts';
import type { SerialRequest, WriteRequest } from '../replication/protocol.ts';
import { OperationQuotas } from './operation-quotas.ts';

const startTimeoutMs = 10_000;
const refreshTimeoutMs = 3_000;

export class NamespaceGuard {
  readonly #ctx: Pick<BaseContext<object>, 'ask' | 'clock'>;
  readonly #catalog: Ref<Catalog> | undefined;
  readonly #quotas: OperationQuotas | undefined;
  #namespaces = firstNamespaces;
  #usages: ReadonlyMap<number, Usage> = new Map();

  /** Without a catalog there is `default` and nothing else. */
  constructor(ctx: Pick<BaseContext<object>, 'ask' | 'clock'>, catalog: Ref<Catalog> | undefined) {
    this.#ctx = ctx;
    this.#catalog = catalog;
    this.#quotas = catalog === undefined ? undefined : new OperationQuotas(ctx, catalog);
  }

  get known(): Namespaces {
    return this.#namespaces;
  }

  /** Takes what this node knows; until then there is `default` alone. */
  start(): void {
    if (this.#catalog === undefined) return;
    this.#ctx.ask(this.#catalog, 'document', {}, startTimeoutMs, (_problem, reply) => {
      if (reply !== undefined) this.changed(reply);
    });
  }

  /** An older document than the known one has no effect. */
  changed({ document: bytes }: CatalogBytes): void {
    const document = decodeCatalog(bytes);
    if (document.epoch > this.#namespaces.epoch) this.#namespaces = new Namespaces(document);
  }

  /** What the cluster has decided; UNAVAILABLE where nobody can say now. */
  refresh(done: Done<Namespaces>): void {
    if (this.#catalog === undefined) return done(undefined, this.#namespaces);
    this.#ctx.ask(this.#catalog, 'refresh', {}, refreshTimeoutMs, (problem, reply) => {
      if (reply === undefined) {
        const why = problem?.code ?? 'BUG';
        const detail = `the namespace is not known here, and the catalog cannot be read now: ${why}`;
        return done(failure('UNAVAILABLE', { detail }), undefined);
      }
      this.changed(reply);
      done(undefined, this.#namespaces);
    });
  }

  /** The namespace of a key; undefined for what the cluster keeps for itself. */
  #of(id: number): Namespace | undefined {
    if (id >= systemNamespace) return undefined;
    const namespace = this.#namespaces.withId(id);
    if (namespace === undefined) throw noSuchNamespace(id);
    return namespace;
  }

  /** Concurrent writes of its keys stand beside each other. */
  keepsSiblings(id: number): boolean {
    return this.#namespaces.withId(id)?.conflicts === 'siblings';
  }

  /** NO_SUCH_NAMESPACE where it is gone. */
  checkRead(id: number): void {
    this.#of(id);
  }

  /** What namespaces with a quota hold now. */
  counted(usages: readonly Usage[]): void {
    this.#usages = new Map(usages.map((usage) => [usage.id, usage]));
  }

  /** Its operations are counted: whoever runs one asks `admit`. */
  isCounted(id: number): boolean {
    const limit = this.#namespaces.withId(id)?.operationsPerSecondMax ?? 0;
    return limit !== 0 && this.#quotas !== undefined;
  }

  /** One operation of a namespace: at once where it has no quota for them. */
  admit(id: number, done: (problem: Failure | undefined) => void): void {
    const namespace = this.#namespaces.withId(id);
    if (namespace === undefined || this.#quotas === undefined || !this.isCounted(id))
      done(undefined);
    else this.#quotas.take(namespace, done);
  }

  /**
   * Operations that are done together: all of them, or none at the first refusal. One goes into the
   * next, so their number has to be bounded.
   */
  admitAll(id: number, count: number, done: (problem: Failure | undefined) => void): void {
    if (count === 0 || !this.isCounted(id)) return done(undefined);
    this.admit(id, (problem) => {
      if (problem === undefined) this.admitAll(id, count - 1, done);
      else done(problem);
    });
  }

  /** QUOTA_EXCEEDED where a namespace is full; what is deleted makes room. */
  #checkRoom(namespace: Namespace): void {
    if (!hasSizeQuota(namespace)) return;
    const usage = this.#usages.get(namespace.id);
    if (usage === undefined) return;
    const { keysMax, bytesMax } = namespace;
    if (keysMax > 0 && usage.keys >= keysMax) throw isFull(namespace, 'keys', keysMax);
    if (bytesMax > 0 && usage.bytes >= bytesMax) throw isFull(namespace, 'bytes', bytesMax);
  }

  /** The write with the lifetime that its namespace gives it. */
  withLifetime<W extends Pick<WriteRequest, 'namespace' | 'value' | 'ttlMs'>>(write: W): W {
    const namespace = this.#of(write.namespace);
    if (namespace === undefined || write.value === undefined) return write;
    this.#checkRoom(namespace);
    const ttlMs = lifetimeOf(namespace, write.ttlMs);
    return ttlMs === write.ttlMs ? write : { ...write, ttlMs };
  }

  /** The same of a serial operation. */
  withSerialLifetime(request: SerialRequest): SerialRequest {
    const namespace = this.#of(request.namespace);
    const { verb, ttlMs, keepTtl, expiresAt = 0 } = request;
    if (namespace === undefined || verb === 'read' || verb === 'delete') return request;
    if (verb !== 'expire') this.#checkRoom(namespace);
    if (expiresAt > 0 && !keepTtl) {
      const leftMs = expiresAt - Math.floor(this.#ctx.clock.wallMicros() / 1000);
      // A moment that is over deletes the key.
      if (leftMs > 0) checkTtl(namespace, leftMs);
      return request;
    }
    if (verb === 'expire') {
      checkTtl(namespace, ttlMs);
      return request;
    }
    // With keepTtl: of a key that is not there yet.
    const lifetimeMs = lifetimeOf(namespace, ttlMs);
    return lifetimeMs === ttlMs ? request : { ...request, ttlMs: lifetimeMs };
  }
}

/** Seconds after which it is worth to try again: counts are made about so often. */
const countSeconds = 5;

function isFull({ name }: Namespace, quota: 'keys' | 'bytes', limit: number): KvError {
  const detail = `namespace ${name} is full: ${limit} ${quota} are allowed; delete some`;
  const fields = { namespace: name, quota, limit, retry_after: countSeconds, detail };
  return new KvError('QUOTA_EXCEEDED', fields);
}

function lifetimeOf(namespace: Namespace, ttlMs: number): number {
  if (ttlMs === 0) return usualTtlMs(namespace);
  checkTtl(namespace, ttlMs);
  return ttlMs;
}
