import pg from 'pg';
import { describe, expect, it } from 'vitest';
import { createDatabase, suffix } from '../../../../test/support/database.ts';
import { readCatalog } from '../../src/catalog/read-catalog.ts';
import { parseModel } from '../../src/model/model.ts';
import { planWall } from '../../src/wall/plan.ts';
import { build } from './unit-database.ts';

const cases = [
  { type: 'uuid', tenant: 'uuid', own: '00000000-0000-4000-8000-00000000000a', other: '00000000-0000-4000-8000-00000000000b' },
  { type: 'bigint', tenant: 'text', own: '-9007199254740993', other: '9007199254740993' },
  { type: 'smallint', tenant: 'bigint', own: '-1', other: '1' },
  { type: 'text', tenant: 'uuid', own: "o'reilly, \\ sons", other: 'ünit,a' },
  { type: 'character varying(40)', tenant: 'integer', own: ' a ', other: 'a' },
];
const tenantOf: Readonly<Record<string, string>> = { uuid: '00000000-0000-4000-8000-000000000001', text: 'acme, inc', bigint: '-7', integer: '7' };

describe.each(cases)('units with keys of type $type', ({ type, tenant: tenantType, own, other }) => {
  it('are kept apart, and plan to nothing once they are', async () => {
    const database = await createDatabase();
    const name = suffix();
    const roles = { owner: 'postgres', app: `app_${name}`, system: `sys_${name}`, service: `svc_${name}` };
    const tenant = tenantOf[tenantType] ?? '';
    const text = (value: string) => `'${value.replaceAll("'", "''")}'`;
    await database.query(`create table tenants (id ${tenantType} primary key);
      create table units (id ${type} primary key, tenant_id ${tenantType} not null references tenants);
      create table things (id int primary key, tenant_id ${tenantType} not null references tenants, unit ${type} not null references units);
      create table notes (id int primary key, tenant_id ${tenantType} not null references tenants, unit ${type} references units);
      insert into tenants values (${text(tenant)});
      insert into units values (${text(own)}, ${text(tenant)}), (${text(other)}, ${text(tenant)});
      insert into things values (1, ${text(tenant)}, ${text(own)}), (2, ${text(tenant)}, ${text(other)});
      insert into notes values (1, ${text(tenant)}, ${text(own)}), (2, ${text(tenant)}, ${text(other)}), (3, ${text(tenant)}, null)`);
    const { rows: owner } = await database.query<{ name: string }>('select current_user as name');
    const model = parseModel({
      tenant: { table: 'tenants' },
      unit: { table: 'units' },
      roles: { ...roles, owner: owner[0]?.name ?? '' },
      tables: {
        units: { scope: 'scoped', column: 'tenant_id' },
        things: { scope: 'scoped', column: 'tenant_id', unit: 'unit' },
        notes: { scope: 'scoped', column: 'tenant_id', unit: 'unit' },
      },
    });
    await build(database, model);
    const admin = new pg.Client(database.url);
    const app = new pg.Client(database.urlAs(roles.app));
    await Promise.all([admin.connect(), app.connect()]);
    try {
      expect(planWall(model, await readCatalog(admin)).steps.map(({ id }) => id)).toEqual([]);
      const seen = async (unit: string | null): Promise<string> => {
        await app.query('begin');
        await app.query('select partywall.enter($1, $2)', [tenant, unit]);
        const { rows } = await app.query<{ seen: string }>(
          `select (select count(*) from units) || ' ' || (select string_agg(id::text, '' order by id) from things) || ' ' || (select string_agg(id::text, '' order by id) from notes) as seen`,
        );
        await app.query('rollback');
        return rows[0]?.seen ?? 'nothing';
      };
      expect([await seen(own), await seen(other), await seen(null)]).toEqual(['1 1 13', '1 2 23', '2 12 123']);
    } finally {
      await Promise.all([admin.end(), app.end()]);
    }
  });
});
