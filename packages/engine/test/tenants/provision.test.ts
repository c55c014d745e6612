import { describe, expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';
import { deleteTenant, listTenants, type ProvisionInput, provisionTenant, showTenant, type TenantCursor } from '../../src/index.ts';

const fixture = await controlDatabase();
const { database, operation } = fixture;

function asked(name: string, changes: Partial<ProvisionInput> = {}): ProvisionInput {
  return {
    name,
    contactEmail: 'contact@new.example',
    adminName: 'Admin User',
    adminEmail: `admin@${encodeURIComponent(name).toLowerCase().slice(0, 30)}.example`,
    hashPassword: async () => 'salt:hash',
    plan: 'pro',
    ...changes,
  };
}

async function count(sql: string, values: unknown[] = []): Promise<number> {
  const { rows } = await database.query<{ count: string }>(`select count(*) from ${sql}`, values);
  return Number(rows[0]?.count);
}

describe('provisioning', () => {
  test('makes the tenant everywhere: root, wall, directory, sign-in, membership, the people of the application', async () => {
    const { tenant, created } = await provisionTenant(operation(), asked('New Company', { adminEmail: 'Admin@NewCompany.com' }));
    expect(created).toBe(true);
    expect(await showTenant(operation(), tenant.id)).toMatchObject({ name: 'New Company', plan: 'pro', status: 'active', wall: { state: 'active' } });
    const { rows: roots } = await database.query('select name, slug, plan, status from tenants where id = $1', [tenant.id]);
    expect(roots).toEqual([{ name: 'New Company', slug: 'new-company', plan: 'pro', status: 'active' }]);
    const { rows: people } = await database.query(
      `select u."email", a."providerId", a."password", a."accountId" = u."id" as own, m."role", o."slug" from partywall_people."user" u
join partywall_people."account" a on a."userId" = u."id" join partywall_people."member" m on m."userId" = u."id"
join partywall_people."organization" o on o."id" = m."organizationId" where o."id" = $1`,
      [tenant.id],
    );
    expect(people).toEqual([{ email: 'admin@newcompany.com', providerId: 'credential', password: 'salt:hash', own: true, role: 'admin', slug: 'new-company' }]);
    const { rows: users } = await database.query('select email, name, role from users where tenant_id = $1', [tenant.id]);
    expect(users).toEqual([{ email: 'Admin@NewCompany.com', name: 'Admin User', role: 'admin' }]);
    const { rows: records } = await database.query('select action, details from partywall_control.audit_records where tenant_id = $1', [tenant.id]);
    expect(records).toEqual([{ action: 'tenant.provision', details: { plan: 'pro', adminIsNew: true } }]);
  });

  test('asked for again in the same words finds the tenant; the form of the name and the password do not count', async () => {
    const first = await provisionTenant(operation(), asked('Twice Ltd'));
    let hashed = 0;
    const again = await provisionTenant(
      operation(),
      asked('  twice  LTD ', {
        adminEmail: asked('Twice Ltd').adminEmail,
        hashPassword: async () => {
          hashed += 1;
          return 'other:hash';
        },
      }),
    );
    expect(again).toMatchObject({ created: false, tenant: { id: first.tenant.id } });
    expect(hashed).toBe(0);
  });

  test('of the same name with another content is refused', async () => {
    await provisionTenant(operation(), asked('Different'));
    await expect(provisionTenant(operation(), asked('Different', { plan: 'free' }))).rejects.toMatchObject({ code: 'tenant_exists' });
  });

  test('of a name whose tenant was deleted is refused, because that one can still be restored', async () => {
    const { tenant } = await provisionTenant(operation(), asked('Was here'));
    await deleteTenant(operation(), { tenant: tenant.id });
    await expect(provisionTenant(operation(), asked('Was here'))).rejects.toMatchObject({
      code: 'tenant_exists',
      message: expect.stringContaining('it is deleted'),
    });
  });

  test('makes a person who is there already admin, who keeps their password', async () => {
    await provisionTenant(operation(), asked('First of Kim', { adminEmail: 'kim@people.example' }));
    await provisionTenant(operation(), asked('Second of Kim', { adminEmail: 'KIM@people.example', hashPassword: async () => 'new:hash' }));
    const { rows } = await database.query(
      `select a."password", (select count(*)::int from partywall_people."member" m where m."userId" = u."id") as memberships
from partywall_people."user" u join partywall_people."account" a on a."userId" = u."id" where u."email" = 'kim@people.example'`,
    );
    expect(rows).toEqual([{ password: 'salt:hash', memberships: 2 }]);
  });

  test('leaves nothing behind when its last part fails', async () => {
    const before = [await count('tenants'), await count('partywall_control.directory'), await count('partywall_people."user"')];
    const failing = asked('Half', {
      hashPassword: async () => {
        throw new Error('no entropy');
      },
    });
    await expect(provisionTenant(operation(), failing)).rejects.toThrow('no entropy');
    await expect(provisionTenant(operation(), asked('Half', { plan: 'gold' }))).rejects.toMatchObject({ code: 'plan_unknown' });
    expect([await count('tenants'), await count('partywall_control.directory'), await count('partywall_people."user"')]).toEqual(before);
  });

  test('asked for a thousand times at once makes one tenant and fails nobody', async () => {
    const results = await Promise.all(Array.from({ length: 1000 }, () => provisionTenant(operation(), asked('Thousand'))));
    expect(results.filter(({ created }) => created)).toHaveLength(1);
    expect(new Set(results.map(({ tenant }) => tenant.id)).size).toBe(1);
    expect(await count('tenants where name = $1', ['Thousand'])).toBe(1);
    expect(await count('partywall_control.audit_records where tenant_id = $1', [results[0]?.tenant.id])).toBe(1);
  });

  test('of different names with one slug at the same time makes them all', async () => {
    const names = ['Slug & Sons', 'Slug Sons', 'Slug, Sons', 'slug-sons', 'SLUG/SONS!'];
    const results = await Promise.all(names.map((name) => provisionTenant(operation(), asked(name, { adminEmail: `a${names.indexOf(name)}@slug.example` }))));
    expect(new Set(results.map(({ tenant }) => tenant.id)).size).toBe(names.length);
    expect(await count("tenants where slug like 'slug-sons%'")).toBe(names.length);
  });

  test.each([
    ["Robert'); drop table tenants; --"],
    ['"quoted" \\ back $1 %s {{x}}'],
    ['شركة المثال ‏(RTL)'],
    ['株式会社テスト'],
    ['🏢🏢🏢'],
    ['-- / .. \\n'],
    ['x'.repeat(200)],
    ['é'.normalize('NFD').repeat(100)],
  ])('takes %j as a name and nothing else', async (name) => {
    const { tenant } = await provisionTenant(operation(), asked(name, { adminEmail: `admin@${Buffer.from(name).toString('hex').slice(0, 50)}.example` }));
    expect((await showTenant(operation(), tenant.id)).name).toBe(name.trim());
    const { rows } = await database.query<{ slug: string }>('select slug from tenants where id = $1', [tenant.id]);
    expect(rows[0]?.slug).toMatch(/^[\p{L}\p{N}\p{M}-]{1,63}$/u);
  });
});

describe('the list of tenants', () => {
  test('searches name, contact and key, filters, and pages without skipping or repeating', async () => {
    const ids = new Set<string>();
    let after: TenantCursor | undefined;
    for (;;) {
      const rows = await listTenants(operation(), { limit: 3, order: 'name', ...(after && { after }) });
      for (const { id } of rows.slice(0, 3)) ids.add(id);
      if (rows.length <= 3) break;
      after = rows[2]?.cursor;
    }
    expect(ids.size).toBe(await count('partywall_control.directory'));
    expect((await listTenants(operation(), { limit: 5, search: 'EW COMP' })).map(({ name }) => name)).toEqual(['New Company']);
    const [found] = await listTenants(operation(), { limit: 5, search: 'new company' });
    expect((await listTenants(operation(), { limit: 5, search: found?.id.slice(0, 13) ?? '' })).map(({ id }) => id)).toEqual([found?.id]);
    expect((await listTenants(operation(), { limit: 50, status: 'deleted' })).map(({ name }) => name)).toEqual(['Was here']);
    expect(await listTenants(operation(), { limit: 5, search: '%' })).toEqual(
      (await listTenants(operation(), { limit: 50 })).filter(({ name }) => name.includes('%')),
    );
  });
});
