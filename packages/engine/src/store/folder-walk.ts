import type { Dirent } from 'node:fs';
import fs from 'node:fs/promises';
import path from 'node:path';
import { isMissing } from './folder-errors.ts';
import { compareKeys, isKey } from './key.ts';

/**
 * The keys below a prefix in their order. Memory holds the names of one folder per level. Symbolic links, and what has no name of
 * an object (`.DS_Store`, `lost+found`), are not part of a store.
 */
export async function* walkFolder(root: string, prefix: string): AsyncGenerator<string> {
  // `packs/ab` begins in `packs/`; what does not begin with `ab` there is left out unread.
  const start = prefix.slice(0, prefix.lastIndexOf('/') + 1);
  yield* walk(root, start, prefix);
}

async function* walk(root: string, base: string, prefix: string): AsyncGenerator<string> {
  for (const key of (await entries(path.join(root, base))).map((name) => base + name).sort(compareKeys)) {
    if (!key.startsWith(prefix) && !prefix.startsWith(key)) continue;
    if (key.endsWith('/')) yield* walk(root, key, prefix);
    else if (key.startsWith(prefix)) yield key;
  }
}

/** Names of files, and of folders with a slash, which is what makes the order that of whole keys: `a-b` before `a/b` before `a0`. */
async function entries(folder: string): Promise<string[]> {
  const found = await fs.readdir(folder, { withFileTypes: true }).catch((error: unknown): Dirent[] => {
    if (isMissing(error)) return [];
    throw error;
  });
  return found.filter((entry) => isKey(entry.name)).flatMap((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.isFile() ? entry.name : []));
}
