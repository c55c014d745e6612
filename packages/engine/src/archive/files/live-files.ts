import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { PartywallError } from '../../errors.ts';
import type { FileRule, FileRules } from '../../model/files.ts';
import { openFileBucket } from './bucket-files.ts';
import { folderFiles } from './folder-files.ts';

/** Files of one tenant, where the application keeps them. */
export interface LiveFiles {
  /** All of them, in the order of their paths. @throws PartywallError store_unavailable, store_refused, backup_refused (more than `filesMax`) */
  list(): Promise<FileListing>;
  /** Undefined where there is none. */
  look(path: string): Promise<LiveFile | undefined>;
  /** Its bytes. @throws FileChanged where these are not of one moment */
  read(file: LiveFile): AsyncIterable<Buffer>;
  /** Whether a file can have this path: none leads out of the tenant's prefix. */
  accepts(path: string): boolean;
  /** Puts a file there whole, in place of what is there. @throws PartywallError store_full, store_refused, store_unavailable */
  write(path: string, body: AsyncIterable<Buffer>, facts: WrittenFacts): Promise<void>;
  /** A file that is not there is removed already. */
  remove(path: string): Promise<void>;
  /** Removes everything below the tenant's prefix, also what is no file that can be kept. */
  clear(): Promise<void>;
  /** Removes what a restore that was killed left half written. */
  tidy(): Promise<void>;
}

export interface LiveFile {
  /** Below the tenant's prefix, with slashes. Personal data: it is in no message. */
  readonly path: string;
  readonly bytes: number;
  /** Milliseconds since 1970. */
  readonly modified: number;
  /** Permission bits; null where the store has none. */
  readonly mode: number | null;
  /** Another one after every change; empty where it changed so lately that a change since would not show. */
  readonly tag: string;
}

export type WrittenFacts = Pick<LiveFile, 'modified' | 'mode'>;

export interface FileListing {
  readonly files: readonly LiveFile[];
  /** What is there and is no file that can be kept, by kind: `symbolic links, not followed`. Counts. */
  readonly left: ReadonlyMap<string, number>;
}

/** A file that was changed, or is gone, while it was read. */
export class FileChanged extends Error {
  override readonly name = 'FileChanged';
}

/** One place of the model, open. */
export interface FilePlace {
  /** As in the model. */
  readonly name: string;
  /** For messages, without secrets. */
  readonly description: string;
  /** @throws PartywallError input_invalid: the tenant's key can be no part of a path */
  of(tenant: string): LiveFiles;
  close(): void;
}

/** Of one tenant in one place. A page has a line of about 350 bytes for each. */
export const filesMax = 200_000;
const partBytesMax = 255;

export interface FilesSettings {
  /** Where `env:` and credentials come from. Default the environment of the process. */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Opens every place of files that the model names. @throws PartywallError usage (a variable is not set), store_refused, store_unavailable */
export async function openFilePlaces(rules: FileRules, { env = process.env, signal }: FilesSettings = {}): Promise<FilePlace[]> {
  const places: FilePlace[] = [];
  try {
    for (const [name, rule] of rules) places.push(await openPlace(name, rule, { env, signal }));
    return places;
  } catch (error) {
    closeFilePlaces(places);
    throw error;
  }
}

export function closeFilePlaces(places: readonly FilePlace[]): void {
  for (const place of places) place.close();
}

async function openPlace(name: string, { store, prefix }: FileRule, { env, signal }: Required<FilesSettings>): Promise<FilePlace> {
  const url = store.startsWith('env:') ? env?.[store.slice('env:'.length)] : store;
  const opening = `opening the files ${name}`;
  if (!url) throw new PartywallError('usage', `${opening}: ${store.slice('env:'.length)} is not set`, { hint: 'set it to file:///path or s3://bucket/prefix' });
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  const prefixOf = (tenant: string): string => prefix.replace('{tenant}', () => tenantPart(tenant));
  if (parsed?.protocol === 'file:' && parsed.host === '') {
    const root = path.normalize(fileURLToPath(parsed));
    return { name, description: `folder ${root}`, of: (tenant) => folderFiles(root, prefixOf(tenant), { signal }), close: () => undefined };
  }
  if (parsed?.protocol === 's3:') {
    const bucket = await openFileBucket(parsed, { env: env ?? {}, signal });
    return { name, description: bucket.description, of: (tenant) => bucket.files(prefixOf(tenant)), close: bucket.close };
  }
  throw new PartywallError('store_refused', `${opening}: files are in file:///path or s3://bucket/prefix`);
}

/** A tenant's key as one part of a path. */
function tenantPart(tenant: string): string {
  const isPart = tenant !== '' && tenant !== '.' && tenant !== '..' && !/[/\\\0]/.test(tenant) && Buffer.byteLength(tenant) <= partBytesMax;
  if (isPart && tenant.isWellFormed()) return tenant;
  throw new PartywallError('input_invalid', `looking for files of tenant ${JSON.stringify(tenant.slice(0, 100))}: its key is no part of a path`);
}
