import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe } from 'vitest';
import { openStore } from '../../src/store/open.ts';
import type { Store } from '../../src/store/store.ts';
import { conformance } from './conformance.ts';

describe('a folder', () => {
  let folder: string;
  let store: Store;
  beforeAll(async () => {
    folder = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-store-'));
    store = await openStore(`file://${folder}/archive`);
  });
  afterAll(() => fs.rm(folder, { recursive: true }));

  conformance(() => ({
    store,
    replaces: true,
    createsOnce: true,
    largeBytes: 13 * 1024 * 1024,
    leftovers: async () => (await Promise.all(['.drafts', '.locks'].map((name) => fs.readdir(path.join(folder, 'archive', name)).catch(() => [])))).flat(),
  }));
});
