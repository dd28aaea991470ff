// Keeps what this node knows of namespaces and users. The document that counts is the value of one key,
// changed by compare-and-set (decided-document.ts); every node has a copy, on disk and in each actor
// that acts by it.
//
// A node hears of a newer document from whoever changed it, by gossip (which carries the epoch), by
// reading the decided one now and then, and when a request names what it does not know. Installing
// one means: stored, then told to every actor that acts by it. A change is answered when so many
// nodes have installed it that no quorum of any key's replicas is without: from then on no write to
// a dropped namespace is acknowledged at a quorum, whoever was asked.
//
// Invariant: the epoch of this node's document never goes back, also across restarts.

import {
  actor,
  type Call,
  type Context,
  type Deferred,
  type Later,
  type Ref,
  refTo,
  type Session,
} from '../../runtime/actor.ts';
import { describeFailure, errorTable, type Failure, KvError } from '../../runtime/errors.ts';
import { KeyTurns } from '../../runtime/key-turns.ts';
import type { Ask, BodyOf, Handlers, Tell } from '../../runtime/protocol.ts';
import { type Gossiper, type PeerState, type PeerStates } from '../membership/protocol.ts';
import {
  type CatalogDocument,
  decodeCatalog,
  encodeCatalog,
  firstDocument,
  hasSizeQuota,
  type Usage,
} from '../model/namespaces.ts';
import { catalogFile, encodeCatalogFile, readCatalogFile } from '../model/catalog-file.ts';
import type { Ring } from '../model/ring.ts';
import { type Grant, TokenBuckets } from '../model/token-buckets.ts';
import { hasUsableAdmin } from '../model/users.ts';
import type { Store } from '../storage/protocol.ts';
import { changed } from './changes.ts';
import { DecidedDocument } from './decided-document.ts';
import { Catalog, type CatalogBytes, type CatalogChange } from './protocol.ts';
import { spread } from './spread.ts';
import { countNamespace, UsageTable } from './usage.ts';

/** An actor that acts by the document. */
export type NamespaceListener = Ref<{
  readonly namespacesChanged: Ask<CatalogBytes, object>;
}>;

export type UsageListener = Ref<{
  readonly usageChanged: Tell<{ readonly usages: readonly Usage[] }>;
}>;

export interface CatalogOptions {
  readonly ring: Ring;
  readonly shards: number;
  readonly gossiper: Ref<Gossiper>;
  /** Those that refuse what was dropped: a document counts as installed when they have it. */
  readonly guards: readonly NamespaceListener[];
  /** Others that are told of it. */
  readonly listeners: readonly NamespaceListener[];
  /** This node's stores: what is in them is counted. */
  readonly stores: readonly Ref<Store>[];
  /** Hear of what namespaces with a quota hold. */
  readonly usageListeners: readonly UsageListener[];
  /** Pause between two counts, milliseconds. */
  readonly countMs: number;
  /** Starts without what it knew where that is damaged. */
  readonly acceptDataLoss: boolean;
  /** Time between two looks at the decided document, milliseconds. */
  readonly refreshMs: number;
  /** Users have to log in, and no token of this node makes a first administrator. Default false. */
  readonly needsAdministrator?: boolean;
}

interface Own {
  readonly tick: Tell<object>;
  readonly announce: Tell<object>;
  readonly count: Tell<object>;
  readonly wasRead: Tell<{ readonly problem: Failure | undefined }>;
}

/** What sessions and turns share. */
interface State {
  document: CatalogDocument;
  /** Every guard has the document of this epoch. */
  installed: number;
  peers: ReadonlyMap<string, PeerState>;
  /** A change of this node may have been decided or not. */
  isInDoubt: boolean;
  /** When the last read of the decided document began. */
  readAtMs: number;
  /** The last counts of what this node holds, by namespace. */
  readonly counts: Map<number, Usage>;
}

const firstLookMs = 2_000;
const retryMs = 1_000;
const serialTimeoutMs = 8_000;
const localTimeoutMs = 5_000;
/** Between the starts of two reads: requests that name what is not there cost no more than this. */
const readGapMs = 20;
/** Questions that may wait for a read. */
const readersMax = 4_096;
const installTurn = 'install';

class CatalogActor implements Handlers<Catalog>, Handlers<Own> {
  readonly #ctx: Context<Own, 'disk'>;
  readonly #options: CatalogOptions;
  readonly #decided: DecidedDocument;
  readonly #turns = new KeyTurns();
  /** Wait for the next read, and for the one that is under way. */
  #readers: Deferred<CatalogBytes>[] = [];
  #served: Deferred<CatalogBytes>[] = [];
  readonly #buckets = new TokenBuckets();
  readonly #usages = new UsageTable();
  /** That nobody can log in was said, and is still so. */
  #saidNoAdministrator = false;
  readonly #state: State = {
    document: firstDocument,
    installed: 0,
    peers: new Map(),
    isInDoubt: false,
    readAtMs: Number.NEGATIVE_INFINITY,
    counts: new Map(),
  };

  constructor(ctx: Context<Own, 'disk'>, options: CatalogOptions) {
    this.#ctx = ctx;
    this.#options = options;
    const { node, clock, metrics } = ctx;
    const { ring, shards } = options;
    const peers = () => this.#state.peers;
    this.#decided = new DecidedDocument({ node, ring, shards, clock, peers });
    const epoch = (): number => this.#state.document.epoch;
    metrics.gauge('kvd_catalog_epoch', 'Epoch of the namespaces that this node knows', epoch);
  }

  start(): void {
    const { disk, toSelf, after, random } = this.#ctx;
    const stored = readCatalogFile(disk, this.#options);
    if (stored.epoch > 0) {
      this.#state.document = stored;
      // A guard may have an older one: this actor may have ended before it told them.
      this.#state.installed = -1;
      toSelf('announce', {});
    }
    after(firstLookMs * (0.5 + random.float()), 'tick', {});
    after(this.#options.countMs, 'count', {});
  }

  // ---- questions ---------------------------------------------------------------------------

  document(): CatalogBytes {
    return { document: encodeCatalog(this.#state.document) };
  }

  /**
   * Who comes while a read is under way waits for the next one: what was decided before the question
   * is in the answer. So there is one read at a time, however many ask.
   */
  refresh(): Later<CatalogBytes> {
    if (this.#readers.length >= readersMax)
      throw new KvError('OVERLOADED', { waiting: this.#readers.length, max: readersMax });
    const later = this.#ctx.later<CatalogBytes>();
    this.#readers.push(later);
    this.#read();
    return later;
  }

  #read(): void {
    if (this.#served.length > 0 || this.#readers.length === 0) return;
    this.#served = this.#readers;
    this.#readers = [];
    const { clock, node, toSelf } = this.#ctx;
    const state = this.#state;
    const decided = this.#decided;
    this.#ctx.session(async (session) => {
      try {
        await session.sleep(Math.max(0, state.readAtMs + readGapMs - clock.monotonicMs()));
        state.readAtMs = clock.monotonicMs();
        const { document } = await decided.read(session, state.readAtMs + serialTimeoutMs);
        state.isInDoubt = false;
        if (document.epoch > state.installed) {
          const body = { document: encodeCatalog(document) };
          await session.ask(refTo(Catalog, node), 'install', body, localTimeoutMs);
        }
        toSelf('wasRead', { problem: undefined });
      } catch (error) {
        if (!(error instanceof KvError)) throw error;
        toSelf('wasRead', { problem: error.toFailure() });
      }
    });
  }

  wasRead({ problem }: BodyOf<Own['wasRead']>): void {
    const served = this.#served;
    this.#served = [];
    if (problem === undefined) this.#checkAdministrator();
    const known = this.document();
    for (const reader of served)
      if (problem === undefined) reader.resolve(known);
      else reader.fail(problem);
    this.#read();
  }

  // ---- changes -----------------------------------------------------------------------------

  change(change: CatalogChange, { deadlineMs }: Call): Later<CatalogBytes> {
    const { log, clock, probe } = this.#ctx;
    const { ring } = this.#options;
    const state = this.#state;
    const decided = this.#decided;
    // A little before the caller gives up, so that it hears why.
    const untilMs = deadlineMs - Math.min(100, (deadlineMs - clock.monotonicMs()) / 10);
    return this.#ctx.session(async (session) => {
      for (;;) {
        const found = await decided.read(session, untilMs);
        // Copies of the decided document can be lost with disks; what this node knows cannot have
        // been less than decided.
        const isLost = found.document.epoch < state.document.epoch;
        const base = isLost ? state.document : found.document;
        const next = changed(base, change, Math.floor(clock.wallMicros() / 1000));
        try {
          if (!(await decided.replace(session, found.version, next, untilMs))) continue;
        } catch (error) {
          if (error instanceof KvError && errorTable[error.code].effect !== 'none')
            state.isInDoubt = true;
          throw error;
        }
        probe.reach('namespace changed');
        const { kind, name } = change;
        log.info('namespaces.changed', { kind, name, epoch: next.epoch });
        await spread(session, next, { ring, clock, untilMs });
        return { document: encodeCatalog(next) };
      }
    });
  }

  // ---- quotas ------------------------------------------------------------------------------

  lease({ id, tokens }: BodyOf<Catalog['lease']>): Grant {
    const namespace = this.#state.document.namespaces.find((each) => each.id === id);
    const perSecond = namespace?.operationsPerSecondMax ?? 0;
    if (perSecond === 0) return { granted: tokens, retryMs: 0 };
    const nodes = this.#aliveNodes();
    return this.#buckets.take(id, { perSecond, nodes }, tokens, this.#ctx.clock.monotonicMs());
  }

  #aliveNodes(): number {
    const others = [...this.#state.peers.values()].filter(
      ({ node, condition }) => node !== this.#ctx.node && condition === 'alive',
    );
    return others.length + 1;
  }

  /** What this node holds; the others and the gateways hear of it. */
  count(): void {
    const { after, tell, clock, node, log } = this.#ctx;
    const { stores, countMs, ring } = this.#options;
    const { document, counts } = this.#state;
    const wanted = document.namespaces.filter(hasSizeQuota);
    this.#buckets.keep((id) => document.namespaces.some((each) => each.id === id));
    for (const id of counts.keys()) if (!wanted.some((each) => each.id === id)) counts.delete(id);
    const next = (): void => void after(countMs, 'count', {});
    if (wanted.length === 0) return next();
    this.#ctx.session(async (session) => {
      for (const { id, name } of wanted)
        try {
          counts.set(id, await countNamespace(session, stores, id, clock));
        } catch (error) {
          if (!(error instanceof KvError)) throw error;
          // What was counted before stands until the next count.
          const detail = describeFailure(error.toFailure());
          log.warn('namespaces.not-counted', { id, name, code: error.code, detail });
        }
      const usages = wanted.flatMap(({ id }) => counts.get(id) ?? []);
      for (const member of ring.members) tell(refTo(Catalog, member), 'counted', { node, usages });
      next();
    });
  }

  counted({ node, usages: heard }: BodyOf<Catalog['counted']>): void {
    const { ring, usageListeners } = this.#options;
    if (!ring.members.includes(node)) return;
    this.#usages.heard(node, heard);
    const { length: members } = ring.members;
    const usages = this.#state.document.namespaces
      .filter(hasSizeQuota)
      .flatMap(({ id }) => this.#usages.total(id, members, ring.replicationFactor) ?? []);
    for (const listener of usageListeners) this.#ctx.tell(listener, 'usageChanged', { usages });
  }

  // ---- copies ------------------------------------------------------------------------------

  install({ document: bytes }: CatalogBytes): Later<{ readonly epoch: number }> {
    const next = decodeCatalog(bytes);
    const { disk, log, tell } = this.#ctx;
    const { gossiper, guards, listeners } = this.#options;
    const state = this.#state;
    const turns = this.#turns;
    return this.#ctx.session((session) =>
      turns.run(installTurn, async () => {
        if (next.epoch > state.document.epoch) {
          await disk.replace(catalogFile, encodeCatalogFile(next));
          state.document = next;
        }
        if (state.installed < state.document.epoch) {
          const { epoch } = state.document;
          const body = { document: encodeCatalog(state.document) };
          await Promise.all(
            guards.map((guard) => session.ask(guard, 'namespacesChanged', body, localTimeoutMs)),
          );
          state.installed = epoch;
          tell(gossiper, 'catalogEpoch', { epoch });
          log.info('namespaces.installed', { epoch });
          await Promise.all(
            listeners.map((listener) => told(session, listener, body, localTimeoutMs)),
          );
        }
        return { epoch: state.installed };
      }),
    );
  }

  announce(): Later<void> {
    const { after, node } = this.#ctx;
    const state = this.#state;
    const body = { document: encodeCatalog(state.document) };
    return this.#ctx.session(async (session) => {
      try {
        await session.ask(refTo(Catalog, node), 'install', body, localTimeoutMs);
      } catch (error) {
        if (!(error instanceof KvError)) throw error;
        // At the start of a node its guards come after this actor.
        after(retryMs, 'announce', {});
      }
    });
  }

  /** The document of a node that has a newer one. */
  heard({ epoch, node: from }: BodyOf<Catalog['heard']>): void {
    const { node, log } = this.#ctx;
    if (epoch <= this.#state.installed || from === node) return;
    this.#ctx.session(async (session) => {
      try {
        const body = await session.ask(refTo(Catalog, from), 'document', {}, localTimeoutMs);
        await session.ask(refTo(Catalog, node), 'install', body, localTimeoutMs);
      } catch (error) {
        if (!(error instanceof KvError)) throw error;
        // Gossip says it again.
        log.debug('namespaces.not-heard', { from, detail: describeFailure(error.toFailure()) });
      }
    });
  }

  /** Says once that no token is right and none can be made, after a majority has been asked. */
  #checkAdministrator(): void {
    const { clock, log } = this.#ctx;
    const { users } = this.#state.document;
    const isMissing =
      this.#options.needsAdministrator === true &&
      !hasUsableAdmin(users, clock.wallMicros() / 1000);
    if (isMissing && !this.#saidNoAdministrator)
      log.warn('access.no-administrator', { detail: noAdministrator });
    this.#saidNoAdministrator = isMissing;
  }

  peersChanged({ peers }: PeerStates): void {
    this.#state.peers = new Map(peers.map((peer) => [peer.node, peer]));
  }

  /** A look at the decided document: soon again after a change whose end nobody knows. */
  tick(): void {
    const { after, random, node, tell } = this.#ctx;
    const { gossiper } = this.#options;
    const state = this.#state;
    tell(gossiper, 'catalogEpoch', { epoch: Math.max(0, state.installed) });
    const next = (): void => {
      const pauseMs = state.isInDoubt ? retryMs : this.#options.refreshMs;
      after(pauseMs * (0.75 + random.float() / 2), 'tick', {});
    };
    this.#ctx.session(async (session) => {
      try {
        await session.ask(refTo(Catalog, node), 'refresh', {}, serialTimeoutMs * 2);
      } catch (error) {
        if (!(error instanceof KvError)) throw error;
      }
      next();
    });
  }
}

const noAdministrator =
  'users have to log in, but there is no administrator who can, and this node has no token that makes one: ' +
  'start it with --auth-bootstrap-token-file (a file that kvd token --out made), or without --auth required';

async function told(
  session: Session,
  listener: NamespaceListener,
  body: CatalogBytes,
  timeoutMs: number,
): Promise<void> {
  try {
    await session.ask(listener, 'namespacesChanged', body, timeoutMs);
  } catch (error) {
    // One that is restarted asks for the document when it starts.
    if (!(error instanceof KvError)) throw error;
  }
}

export const catalog = actor({
  protocol: Catalog,
  needs: ['disk'],
  create: (ctx: Context<Own, 'disk'>, options: CatalogOptions) => new CatalogActor(ctx, options),
});
