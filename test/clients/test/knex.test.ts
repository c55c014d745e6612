import { run, TenantContextError, wallErrorOf } from '@partywall/wall';
import knexOf from 'knex';
import { describe, expect, test } from 'vitest';
import { knex } from '../src/knex.ts';
import { plainPg } from '../src/pg.ts';
import { customerName, tenantId } from '../src/schema.ts';
import { conformance } from './conformance.ts';
import { clientsDatabase, failure } from './database.ts';
import { tapWire } from './wire.ts';

conformance(knex);

describe('Knex over the pool itself', async () => {
  const wall = await clientsDatabase();
  const wire = await tapWire(wall.urls.app);
  const { pool } = await wall.walled(plainPg, { connectionString: wire.through(wall.urls.app), allow: ['select version();'] });
  const db = knexOf({ client: 'pg', connectionPool: pool });

  test('asks for the version first, which is allowed by name, and nothing else is sent outside a context', async () => {
    expect(wallErrorOf(await failure(db('customers').pluck('name')))).toBeInstanceOf(TenantContextError);
    const own = wire.statements.filter((text) => !text.includes('partywall') && !text.includes('pg_catalog'));
    expect(own).toEqual(['select version();']);
    expect(await run({ tenant: tenantId(1) }, () => db('customers').orderBy('name').pluck('name'))).toEqual([1, 2, 3].map((n) => customerName(1, n)));
  });
});
