import { connect, inferModel, modelFingerprint, parseModel, readCatalog } from '@partywall/engine';
import { expect, test } from 'vitest';
import { createDatabase } from '../../../test/support/database.ts';
import config from '../partywall.config.ts';
import { loadCrm } from '../src/seed.ts';

test('the config is what init infers from the un-hardened database, but for the names of roles', async () => {
  const database = await createDatabase();
  const client = await connect(database.url, { purpose: 'test' });
  try {
    await loadCrm(client);
    const written = parseModel(config);
    const { model } = inferModel(await readCatalog(client));
    expect(modelFingerprint({ ...model, roles: written.roles })).toBe(modelFingerprint(written));
    expect({ profile: model.tenant.profile, people: model.people, quotas: model.quotas }).toEqual({
      profile: written.tenant.profile,
      people: written.people,
      quotas: written.quotas,
    });
    expect([...model.tables.values()].filter((rule) => rule.scope === 'unclassified')).toEqual([]);
  } finally {
    await client.end();
  }
});
