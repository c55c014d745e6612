import pg from 'pg';
import { beforeAll, expect, it } from 'vitest';
import { readCatalog } from '../../src/catalog/read-catalog.ts';
import { readServerFacts } from '../../src/verify/server-facts.ts';
import { runStatic } from '../../src/verify/static/run-static.ts';
import { reachOf } from '../../src/verify/static/static-facts.ts';
import { wantedWall } from '../../src/wall/shape.ts';
import { createSoundDatabase, type SoundDatabase } from './sound-database.ts';

let sound: SoundDatabase;
beforeAll(async () => {
  sound = await createSoundDatabase();
});

it('finds nothing in a sound database', async () => {
  const client = new pg.Client(sound.database.url);
  await client.connect();
  const catalog = await readCatalog(client);
  const server = await readServerFacts(client, sound.model.roles.app);
  await client.end();
  const findings = runStatic({ catalog, model: sound.model, wanted: wantedWall(sound.model, catalog), server, reach: reachOf(catalog, sound.model.roles.app) });
  expect(findings).toEqual([]);
});
