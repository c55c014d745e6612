import { drillBackup, runBackup } from '@partywall/engine';
import pg from 'pg';
import { expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { createDatabase } from '../../../../../test/support/database.ts';
import { changeSeal } from '../../../src/seal/change-seal.ts';
import { drilledTenants } from './drilled-tenants.ts';

const fixture = await controlDatabase();
const { archive } = await archiveFixture({ keyring: fixture.control.keyring });
const staging = await createDatabase();

test('a sealed database is drilled: what is restored is sealed, attacked and asked, and its backup holds no key', async () => {
  await drilledTenants(fixture, ['enterprise', 'free']);
  const client = new pg.Client(fixture.database.url);
  await client.connect();
  const actor = { kind: 'operator', id: 'test' } as const;
  for (const kind of ['rotate', 'on'] as const) await changeSeal(client, fixture.model, { kind }, { actor });
  await client.end();
  const backup = await runBackup(fixture.operation(), archive, { reason: 'test' });
  expect(JSON.stringify(backup)).not.toContain('partywall.seal_keys"');

  const { archive: settings, ...model } = fixture.model;
  const operation = {
    ...fixture.operation(),
    database: {
      ...fixture.operation().database,
      model: { ...model, archive: { ...settings, smoke: [{ sql: 'select * from customers', expect: 'rows' as const }] } },
    },
  };
  const report = await drillBackup(operation, archive, { into: staging.url, selection: { kind: 'all' } });
  expect(report.steps.filter(({ problems }) => problems.length > 0)).toEqual([]);
  expect(report.outcome).toBe('passed');
  expect(report.steps.find(({ step }) => step === 'smoke')?.said).toBe('2 answers');
}, 120_000);
