import { createHash } from 'node:crypto';
import fs from 'node:fs/promises';

/** A numbered file of `packages/engine/schema`: applied once, in order, never edited after a release. */
export interface Migration {
  readonly number: number;
  readonly name: string;
  readonly sql: string;
  /** SHA-256 of the text, hex. */
  readonly hash: string;
}

const folder = new URL('../../schema/', import.meta.url);

export async function readMigrations(): Promise<readonly Migration[]> {
  const files = (await fs.readdir(folder)).filter((file) => /^\d{4}_\w+\.sql$/.test(file)).sort();
  return Promise.all(
    files.map(async (file) => {
      const sql = await fs.readFile(new URL(file, folder), 'utf8');
      return { number: Number(file.slice(0, 4)), name: file.slice(5, -4), sql, hash: createHash('sha256').update(sql).digest('hex') };
    }),
  );
}
