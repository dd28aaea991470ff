// One read on its way through the replicas (RR-1 to RR-3). Pure: answers in, actions out.
//
//   reading   the data from one replica, etags from the others that the level needs
//     | all etags equal ------------------------------------------------------------> done
//   comparing the data from as many, merged by the namespace's rule
//     | everyone holds the winner --------------------------------------------------> done
//   repairing the winner goes to those that lack it, and to further replicas when one of them is
//             slow or fails, until as many hold it as the level asks --------------> done
//
// Whoever is slow or fails is replaced by the next candidate in every phase; the read fails as soon
// as those that hold or may still answer are fewer than the level asks.
//
// The last step is what makes quorum reads monotonic (G5): a value that was once returned is held
// by a quorum, even when its write failed half-way.

import { assert } from '../../runtime/errors.ts';
import { type Etag, equalEtags, noEtag, recordEtag } from '../model/record.ts';
import { type Resolve, resolveAll } from '../model/resolve.ts';

export type ReadAction =
  | { readonly kind: 'read'; readonly node: string; readonly digest: boolean }
  | { readonly kind: 'repair'; readonly node: string; readonly record: Uint8Array };

export type ReadOutcome =
  | { readonly kind: 'open' }
  | { readonly kind: 'done'; readonly record: Uint8Array | undefined }
  | { readonly kind: 'failed' };

export interface ReadAnswer extends Etag {
  /** Absent in an answer to a digest read, and where there is nothing (hlc 0). */
  readonly record: Uint8Array | undefined;
}

type Phase = 'reading' | 'comparing' | 'repairing' | 'ended';

interface Held {
  readonly node: string;
  readonly etag: Etag;
  readonly record: Uint8Array | undefined;
  readonly isFull: boolean;
}

const nothing: readonly ReadAction[] = [];
/** Shared by all reads: most of them stay without those that failed and those that were repaired. */
const nobody: readonly string[] = [];

export class ReadPath {
  readonly #required: number;
  readonly #candidates: readonly string[];
  readonly #resolve: Resolve;
  /** Candidates that were asked, in order. */
  #asked = 0;
  #phase: Phase = 'reading';
  // As many as there are replicas: lists are smaller and faster than sets.
  readonly #answers: Held[] = [];
  /** Asked for something that has not come yet. */
  #waiting = nobody;
  #failed = nobody;
  #repairs = nobody;
  #winner: Uint8Array | undefined;
  #holders = nobody;
  outcome: ReadOutcome = { kind: 'open' };

  /** `candidates`: live replicas in the order of preference, at least `required` of them. */
  constructor(required: number, candidates: readonly string[], resolve: Resolve) {
    assert(candidates.length >= required, 'a read needs as many candidates as answers');
    this.#required = required;
    this.#candidates = candidates;
    this.#resolve = resolve;
  }

  /** Replicas that have answered; while it repairs, those that hold the winner. */
  get received(): number {
    return this.#winner === undefined ? this.#answers.length : this.#holders.length;
  }

  begin(): readonly ReadAction[] {
    const actions: ReadAction[] = [];
    while (this.#asked < this.#required) actions.push(...this.#readNext(this.#asked > 0));
    return actions;
  }

  answered(node: string, answer: ReadAnswer): readonly ReadAction[] {
    if (this.#phase === 'ended' || this.#phase === 'repairing') return nothing;
    const { hlc, writer, incarnation, record } = answer;
    const isFull = record !== undefined || hlc === 0;
    this.#hold({ node, etag: { hlc, writer, incarnation }, record, isFull });
    this.#waiting = without(this.#waiting, node);
    if (this.#phase === 'reading') return this.#compare();
    // An etag that comes late: only the data helps now.
    return isFull ? this.#merge() : this.#readAgain(node);
  }

  failed(node: string): readonly ReadAction[] {
    if (this.#phase === 'ended' || this.#phase === 'repairing') return nothing;
    this.#waiting = without(this.#waiting, node);
    const held = this.#placeOf(node);
    if (held >= 0) this.#answers.splice(held, 1);
    this.#failed = including(this.#failed, node);
    const more = this.#readNext(false);
    if (more.length > 0) return more;
    // One that gave its etag and is asked for its data stands in both.
    const hopeful = new Set([...this.#answers.map((answer) => answer.node), ...this.#waiting]);
    return hopeful.size < this.#required ? this.#fail() : nothing;
  }

  /** Somebody is slow: ask one replica more, or repair one more. */
  speculate(): readonly ReadAction[] {
    if (this.#phase === 'ended') return nothing;
    return this.#phase === 'repairing' ? this.#repairNext() : this.#readNext(false);
  }

  repaired(node: string): readonly ReadAction[] {
    if (this.#phase !== 'repairing') return nothing;
    this.#waiting = without(this.#waiting, node);
    this.#holders = including(this.#holders, node);
    if (this.#holders.length >= this.#required) this.#finish();
    return nothing;
  }

  repairFailed(node: string): readonly ReadAction[] {
    if (this.#phase !== 'repairing') return nothing;
    this.#waiting = without(this.#waiting, node);
    const more = this.#repairNext();
    if (more.length === 0 && this.#holders.length + this.#waiting.length < this.#required)
      return this.#fail();
    return more;
  }

  #readNext(digest: boolean): readonly ReadAction[] {
    const node = this.#candidates[this.#asked];
    if (node === undefined) return nothing;
    this.#asked += 1;
    this.#waiting = including(this.#waiting, node);
    return [{ kind: 'read', node, digest }];
  }

  #readAgain(node: string): readonly ReadAction[] {
    this.#waiting = including(this.#waiting, node);
    return [{ kind: 'read', node, digest: false }];
  }

  #placeOf(node: string): number {
    return this.#answers.findIndex((answer) => answer.node === node);
  }

  /** In the place of what the node had said before. */
  #hold(answer: Held): void {
    const held = this.#placeOf(answer.node);
    if (held >= 0) this.#answers[held] = answer;
    else this.#answers.push(answer);
  }

  /** Enough answers of the first round: equal, or a reason to look closer. */
  #compare(): readonly ReadAction[] {
    if (this.#answers.length < this.#required) return nothing;
    const first = this.#answers[0] as Held;
    const areEqual = this.#answers.every(({ etag }) => equalEtags(etag, first.etag));
    const full = this.#answers.find(({ isFull }) => isFull);
    if (areEqual && full !== undefined) {
      this.#winner = full.record;
      this.#finish();
      return nothing;
    }
    this.#phase = 'comparing';
    const actions: ReadAction[] = [];
    for (const { node, isFull } of this.#answers)
      if (!isFull) actions.push(...this.#readAgain(node));
    return actions.length > 0 ? actions : this.#merge();
  }

  #merge(): readonly ReadAction[] {
    const full = this.#answers.filter(({ isFull }) => isFull);
    if (full.length < this.#required) return nothing;
    this.#winner = resolveAll(
      full.map(({ record }) => record),
      this.#resolve,
    );
    const winner = this.#winner === undefined ? noEtag : recordEtag(this.#winner);
    // An etag alone may say it too: that replica was slow to send the data.
    for (const { node, etag } of this.#answers)
      if (equalEtags(etag, winner)) this.#holders = including(this.#holders, node);
    if (this.#holders.length >= this.#required || this.#winner === undefined) {
      this.#finish();
      return nothing;
    }
    this.#phase = 'repairing';
    this.#waiting = nobody;
    const actions: ReadAction[] = [];
    for (const { node } of this.#answers)
      if (!this.#holders.includes(node)) actions.push(this.#repair(node, this.#winner));
    return actions;
  }

  #repair(node: string, record: Uint8Array): ReadAction {
    this.#waiting = including(this.#waiting, node);
    this.#repairs = including(this.#repairs, node);
    return { kind: 'repair', node, record };
  }

  /** The next replica that neither holds the winner nor was sent it; one that failed comes last. */
  #repairNext(): readonly ReadAction[] {
    const left = this.#candidates.filter(
      (candidate) => !this.#holders.includes(candidate) && !this.#repairs.includes(candidate),
    );
    const node = left.find((candidate) => !this.#failed.includes(candidate)) ?? left[0];
    return node === undefined || this.#winner === undefined
      ? nothing
      : [this.#repair(node, this.#winner)];
  }

  #finish(): void {
    this.#phase = 'ended';
    this.outcome = { kind: 'done', record: this.#winner };
  }

  #fail(): readonly ReadAction[] {
    this.#phase = 'ended';
    this.outcome = { kind: 'failed' };
    return nothing;
  }
}

const including = (nodes: readonly string[], node: string): readonly string[] =>
  nodes.includes(node) ? nodes : [...nodes, node];

const without = (nodes: readonly string[], node: string): readonly string[] =>
  nodes.includes(node) ? nodes.filter((one) => one !== node) : nodes;
