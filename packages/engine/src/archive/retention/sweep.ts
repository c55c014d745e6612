import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { PartywallError } from '../../errors.ts';
import { readObject } from '../../store/read-object.ts';
import type { Store } from '../../store/store.ts';
import { isBackupId } from '../archive.ts';
import { canonicalJson } from '../format/canonical-json.ts';

/**
 * Deletes what nothing reaches, in two phases: a run lists it under `sweep/`, and a run after a grace deletes what is on the list and still is not
 * reached. The grace is longer than the longest backup, so that objects of one that runs are safe: by then its manifest reaches them, or it is dead.
 * What a kill leaves undone is on a list, or is found again.
 */
export const graceHoursDefault = 24;

export interface SweepReport {
  /** Objects that were put on a list now. */
  readonly marked: number;
  readonly deleted: number;
  readonly bytes: number;
  /** Locked until a date: they are tried again. */
  readonly locked: number;
  /** On lists, for a later run. */
  readonly waiting: number;
}

export interface SweepInput {
  readonly store: Store;
  /** Whether something needs the object. */
  readonly reached: (key: string) => boolean;
  readonly now: Date;
  readonly graceHours: number;
  readonly signal?: AbortSignal | undefined;
}

const folder = 'sweep/';
const format = 'partywall.sweep/1';
const list = z.strictObject({ format: z.literal(format), at: z.iso.datetime(), keys: z.array(z.string().max(300)) });
const keysPerList = 10_000;
/** Marked and not yet deleted, in all; what is over waits for the next run. */
const markedMax = 500_000;
const listBytesMax = 16 * 1024 ** 2;
/** Only these are ever deleted: packs, and what lies beside a manifest that is gone. */
const sweepable = /^(?:packs\/[0-9a-f]{32}\/(\d{8}t\d{6}z-[0-9a-f]{8})\.\d+|backups\/(\d{8}t\d{6}z-[0-9a-f]{8})\/(?:pages|verified\.json|retired-\d+\.json))$/;

/** @throws PartywallError store_unavailable, store_refused */
export async function sweep(input: SweepInput): Promise<SweepReport> {
  const { store, reached, now, graceHours, signal } = input;
  const marked = new Set<string>();
  let deleted = 0;
  let bytes = 0;
  let locked = 0;
  for (const key of await namesOf(store)) {
    signal?.throwIfAborted();
    const listed = await readList(store, key);
    if (!listed) continue;
    const { at, keys } = listed;
    const ripe = new Date(at).getTime() + graceHours * 3_600_000 <= now.getTime();
    if (!ripe) {
      for (const each of keys) marked.add(each);
      continue;
    }
    let left = 0;
    for (const each of keys) {
      signal?.throwIfAborted();
      if (!isSweepable(each) || reached(each)) continue;
      const outcome = await remove(store, each);
      if (outcome === 'locked') {
        left += 1;
        locked += 1;
        marked.add(each);
      } else if (outcome !== undefined) {
        deleted += 1;
        bytes += outcome;
      }
    }
    if (left === 0) await store.delete(key);
  }
  return { marked: await mark(input, marked), deleted, bytes, locked, waiting: marked.size };
}

/** Puts on lists what is not reached and is on none; adds it to `marked`. */
async function mark({ store, reached, now, signal }: SweepInput, marked: Set<string>): Promise<number> {
  let fresh: string[] = [];
  let count = 0;
  const write = async (): Promise<void> => {
    if (fresh.length === 0) return;
    const stamp = now.toISOString().slice(0, 19).replaceAll(/[-:]/g, '').toLowerCase();
    const body = Buffer.from(canonicalJson({ format, at: now.toISOString(), keys: fresh }));
    await store.put(`${folder}${stamp}z-${randomBytes(4).toString('hex')}.json`, body, { ifAbsent: true });
    count += fresh.length;
    fresh = [];
  };
  for (const prefix of ['packs/', 'backups/']) {
    for await (const { key } of store.list(prefix)) {
      signal?.throwIfAborted();
      if (marked.size >= markedMax) break;
      if (!isSweepable(key) || reached(key) || marked.has(key)) continue;
      marked.add(key);
      fresh.push(key);
      if (fresh.length >= keysPerList) await write();
    }
  }
  await write();
  return count;
}

function isSweepable(key: string): boolean {
  const [, pack, beside] = sweepable.exec(key) ?? [];
  return isBackupId(pack ?? beside ?? '');
}

/** Bytes that are free now; undefined where it was gone already. */
async function remove(store: Store, key: string): Promise<number | 'locked' | undefined> {
  const found = await store.head(key);
  if (!found) return undefined;
  try {
    await store.delete(key);
    return found.bytes;
  } catch (error) {
    if (error instanceof PartywallError && error.code === 'store_locked') return 'locked';
    throw error;
  }
}

async function namesOf(store: Store): Promise<string[]> {
  const names: string[] = [];
  for await (const { key } of store.list(folder)) names.push(key);
  return names;
}

/** Undefined where another run has done with it. A list that is not one of ours marks nothing. */
async function readList(store: Store, key: string): Promise<{ at: string; keys: readonly string[] } | undefined> {
  const stored = await readObject(store, key, listBytesMax).catch((error: unknown) => {
    if (error instanceof PartywallError && error.code === 'store_object_missing') return undefined;
    throw error;
  });
  if (!stored) return undefined;
  try {
    return list.parse(JSON.parse(stored.toString('utf8')));
  } catch (cause) {
    throw new PartywallError('archive_damaged', `reading ${key}: it is no list of objects to be deleted`, { cause, hint: `delete ${key} and run again` });
  }
}
