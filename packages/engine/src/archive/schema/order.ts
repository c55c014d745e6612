import { type Draft, kinds } from './draft.ts';
import type { Dependencies } from './read-dependencies.ts';

/** Made before the rows are loaded, or after. */
export type Phase = 'before' | 'after';

/** A draft, or its stub, at its place. */
export interface Placed {
  readonly draft: Draft;
  readonly statements: readonly string[];
  readonly phase: Phase;
  readonly needs: readonly Draft[];
}

export interface Order {
  readonly placed: readonly Placed[];
  /** What needs itself in the end and has no stub, a line each: it comes too early. */
  readonly circular: readonly string[];
}

type Needs = ReadonlyMap<Draft, ReadonlySet<Draft>>;

const lastBefore = kinds.indexOf('sequence owner');

/**
 * Puts the drafts in an order in which each comes after what it needs; where that leaves a choice, by kind and then by id, so that the same schema
 * has the same order in every database. What something of the first phase needs is in the first phase too.
 */
export function order(drafts: readonly Draft[], dependencies: Dependencies): Order {
  const makers = new Map(drafts.flatMap((draft) => draft.makes.map((address) => [address, draft] as const)));
  const needs: Needs = new Map(drafts.map((draft) => [draft, needsOf(draft, makers, dependencies)]));
  const first = closure(drafts.filter(isFirst), needs);
  const phase = (draft: Draft): Phase => (first.has(draft) ? 'before' : 'after');
  const sorted = drafts.toSorted((a, b) => Number(first.has(b)) - Number(first.has(a)) || kinds.indexOf(a.kind) - kinds.indexOf(b.kind) || compare(a.id, b.id));
  const place = new Map(sorted.map((draft, at) => [draft, at]));
  const placeOf = (draft: Draft): number => place.get(draft) ?? 0;

  const dependents = new Map<Draft, Draft[]>();
  const open = new Map(sorted.map((draft) => [draft, new Set(needs.get(draft))]));
  for (const [draft, others] of needs) for (const other of others) dependents.set(other, [...(dependents.get(other) ?? []), draft]);
  const ready: number[] = [];
  const release = (draft: Draft): void => {
    for (const dependent of dependents.get(draft) ?? []) {
      const waiting = open.get(dependent);
      if (waiting?.delete(draft) && waiting.size === 0) insert(ready, placeOf(dependent));
    }
  };
  for (const [draft, waiting] of open) if (waiting.size === 0) insert(ready, placeOf(draft));

  const placed: Placed[] = [];
  const circular: string[] = [];
  const stubbed = new Set<Draft>();
  while (open.size > 0) {
    const draft = sorted[ready.pop() ?? -1];
    if (draft) {
      open.delete(draft);
      placed.push({ draft, statements: draft.statements, phase: phase(draft), needs: [...(needs.get(draft) ?? [])] });
      if (!stubbed.has(draft)) release(draft);
      continue;
    }
    const knot = sorted.filter((each) => open.has(each) && !stubbed.has(each) && inCircle(each, open));
    const cut = knot.find(({ stub }) => stub !== undefined) ?? knot[0];
    if (!cut) throw new Error('ordering a schema: nothing is ready and nothing is circular');
    if (cut.stub) {
      stubbed.add(cut);
      placed.push({ draft: cut, statements: cut.stub, phase: phase(cut), needs: [] });
      release(cut);
    } else {
      circular.push(`${cut.id} needs itself in the end`);
      open.get(cut)?.clear();
      insert(ready, placeOf(cut));
    }
  }
  return { placed, circular };
}

function isFirst({ kind }: Draft): boolean {
  return kinds.indexOf(kind) <= lastBefore;
}

function needsOf(draft: Draft, makers: ReadonlyMap<string, Draft>, { needs, stands }: Dependencies): ReadonlySet<Draft> {
  const addresses = [...draft.makes.flatMap((address) => [...(needs.get(address) ?? [])]), ...(draft.needs ?? [])];
  const found = addresses.flatMap((address) => makers.get(address) ?? makers.get(stands.get(address) ?? '') ?? []);
  return new Set(found.filter((other) => other !== draft));
}

function closure(start: readonly Draft[], needs: Needs): ReadonlySet<Draft> {
  const reached = new Set(start);
  // A set gives out what is added while it is walked.
  for (const draft of reached) for (const other of needs.get(draft) ?? []) reached.add(other);
  return reached;
}

/** Whether a draft waits for itself. */
function inCircle(draft: Draft, open: Needs): boolean {
  return closure([...(open.get(draft) ?? [])], open).has(draft);
}

/** Keeps the numbers falling, so that the last is the least. */
function insert(numbers: number[], number: number): void {
  let low = 0;
  let high = numbers.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((numbers[middle] ?? 0) > number) low = middle + 1;
    else high = middle;
  }
  numbers.splice(low, 0, number);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
