import { createHash, randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';
import {
  deleteTenant,
  eraseTenant,
  holdTenant,
  listCertificates,
  previewErasure,
  provisionTenant,
  purgeRetained,
  readCertificate,
  showTenant,
  suspendTenant,
  unholdTenant,
  verifyCertificate,
} from '../../src/index.ts';
import { nameHash } from '../../src/tenants/certificate.ts';
import { wallTables } from '../../src/tenants/erase/wall-rows.ts';
import { eraser } from './erasing.ts';

const fixture = await controlDatabase();
const { database, operation } = fixture;
const { durable, erase } = eraser(fixture);

/** A tenant with rows in every table, and people. */
async function furnished(name: string): Promise<string> {
  const { tenant } = await provisionTenant(operation(), {
    name,
    contactEmail: 'c@example.org',
    adminName: 'Admin',
    adminEmail: `${name.replaceAll(' ', '')}@example.org`,
    hashPassword: async () => 'hash',
    plan: 'enterprise',
  });
  await database.query(
    `with c as (insert into customers (tenant_id, name, owner_id) select $1, 'customer ' || n, (select id from users where tenant_id = $1 limit 1) from generate_series(1, 30) n returning id)
insert into notes (customer_id, body, partywall_tenant_id) select id, 'note', $1 from c, generate_series(1, 3)`,
    [tenant.id],
  );
  await database.query(
    'update customers c set parent_id = (select id from customers p where p.tenant_id = c.tenant_id and p.id < c.id order by id desc limit 1) where tenant_id = $1',
    [tenant.id],
  );
  await database.query("insert into files (tenant_id, name, size_bytes) values ($1, 'a', 5), ($1, 'b', 6)", [tenant.id]);
  return tenant.id;
}

/** Everything in the application's tables that is not the tenant's, as one hash each. */
async function neighbours(tenant: string): Promise<unknown> {
  const tables = { tenants: 'id', users: 'tenant_id', customers: 'tenant_id', notes: 'partywall_tenant_id', files: 'tenant_id' };
  const found: Record<string, unknown> = {};
  for (const [table, column] of Object.entries(tables)) {
    const { rows } = await database.query(`select count(*), md5(string_agg(t::text, ',' order by t::text)) as hash from ${table} t where ${column} <> $1`, [
      tenant,
    ]);
    found[table] = rows[0];
  }
  return found;
}

/** Tables of all three schemas in which the text of the tenant's key occurs. */
async function traces(tenant: string): Promise<string[]> {
  const { rows } = await database.query<{ name: string }>(
    `select format('%I.%I', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname in ('public', 'partywall', 'partywall_control', 'partywall_people') and c.relkind = 'r'`,
  );
  const found: string[] = [];
  for (const { name } of rows)
    if ((await database.query(`select from ${name} t where t::text like '%' || $1 || '%' limit 1`, [tenant])).rowCount) found.push(name);
  return found.sort();
}

const evidence = ['audit_heads', 'audit_records', 'certificates', 'operations'].map((table) => `partywall_control.${table}`);

await furnished('Neighbour one');
await furnished('Neighbour two');

describe('erasing a tenant', () => {
  test('leaves no row of it anywhere but in the evidence, and no neighbour changed', async () => {
    const tenant = await furnished('Gone');
    const before = await neighbours(tenant);
    expect(await erase({ tenant, force: true, reason: 'asked to' })).toMatchObject({ state: 'done', step: 'done', error: null });
    expect(await traces(tenant)).toEqual(evidence);
    expect(await neighbours(tenant)).toEqual(before);
    await expect(showTenant(operation(), tenant)).rejects.toMatchObject({ code: 'tenant_unknown' });
    const { rows } = await database.query('select action from partywall_control.audit_records where tenant_id = $1 order by seq', [tenant]);
    expect(rows.map(({ action }) => action)).toEqual(['tenant.provision', 'tenant.erase', 'tenant.erased']);
    expect((await database.query(`select from partywall_people."user" where "email" = 'gone@example.org'`)).rowCount).toBe(0);
  });

  test('takes it out of what is kept for the roll-out, attempts, jobs and their alerts, and leaves the rows of others as they were', async () => {
    const [tenant, other] = [await furnished('Recorded'), await furnished('Recorded beside it')];
    const hashes = [tenant, other].map((key) => createHash('sha256').update(key).digest('hex').slice(0, 16));
    await database.query(`insert into partywall_control.alert_channels (name, kind, shown, target, severities, enabled) values ('ops', 'webhook', 'x', '', '{critical}', true);
      insert into partywall.rollout (scope, target, mode) values ('tenant', '${tenant}', 'observe'), ('tenant', '${other}', 'enforce');
      insert into partywall.facts (name, value) values ('rollout_observing', 'true');
      insert into partywall.attempts (at, last_at, times, kind, source, route, actor, tenant, claimed, request_id) values
        (now(), now(), 1, 'tenant', '198.51.100.1', 'GET /a', 'u1', '${tenant}', '${other}', 'r1'),
        (now(), now(), 2, 'tenant', '198.51.100.2', 'GET /t/${tenant}', 'u2', '${other}', '{${tenant.toUpperCase()}}', 'r2'),
        (now(), now(), 3, 'tenant', '198.51.100.3', 'GET /c', 'u3', '${other}', 'nobody', 'r3');
      insert into partywall.integrity_counts values ('public.notes', now(), 2, '{"${hashes[0]}": 1, "${hashes[1]}": 1}');
      insert into partywall.job_runs (job, run_key, started_at, receipt) values ('report', '1', now(), '${JSON.stringify({
        status: 'incomplete',
        failures: [tenant, other].map((key) => ({ tenant: key, reason: `failed for ${key}` })),
        alerts: [{ kind: 'zero' }, { kind: 'zero_tenants', count: 2, tenants: [tenant, other] }],
      })}');
      insert into partywall.job_visits (run, tenant_id, outcome) select id, key, 'failed' from partywall.job_runs, unnest('{${tenant},${other}}'::text[]) key`);
    const named = [
      { routes: ['GET /a'], actors: ['u1'], tenants: [tenant, other] },
      { runKey: '1', alerts: [{ kind: 'zero_tenants', count: 1, tenants: [tenant] }] },
      { tenants: [other] },
    ];
    for (const [at, details] of named.entries()) {
      await database.query(
        `with a as (insert into partywall_control.alerts (rule, title, tenant_id, subject, metric, status, severity, value, threshold, details, opened_at)
          values ('r', 't', '', $1, 'm', 'open', 'critical', 1, 0, $2, now()) returning id)
        insert into partywall_control.deliveries (channel, alert_id, event, payload) select 'ops', id, 'opened', jsonb_build_object('title', 't', 'details', $2::jsonb) from a`,
        [`from ${at}`, JSON.stringify(details)],
      );
    }
    await erase({ tenant, force: true });
    expect(await traces(tenant)).toEqual(evidence);
    const told = await database.query(
      `select a.details, d.payload from partywall_control.alerts a join partywall_control.deliveries d on d.alert_id = a.id order by a.subject`,
    );
    expect(told.rows).toEqual([{}, { runKey: '1' }, { tenants: [other] }].map((details) => ({ details, payload: { title: 't', details } })));
    expect((await readCertificate(operation(), tenant)).body.removed).toMatchObject({ wall: 5 });
    const rows = async (query: string) => (await database.query(query)).rows;
    expect(await rows('select scope, target from partywall.rollout')).toEqual([{ scope: 'tenant', target: other }]);
    expect(await rows("select value from partywall.facts where name = 'rollout_observing'")).toEqual([{ value: false }]);
    const gone = { route: null, request_id: null };
    expect(await rows('select times::int, host(source) as source, route, actor, tenant, claimed, request_id from partywall.attempts order by source')).toEqual([
      { ...gone, times: 1, source: '198.51.100.1', actor: null, tenant: null, claimed: other },
      { ...gone, times: 2, source: '198.51.100.2', actor: 'u2', tenant: other, claimed: null },
      { times: 3, source: '198.51.100.3', route: 'GET /c', actor: 'u3', tenant: other, claimed: 'nobody', request_id: 'r3' },
    ]);
    expect(await rows('select tenants from partywall.integrity_counts')).toEqual([{ tenants: { [hashes[1] ?? '']: 1 } }]);
    expect(await rows('select receipt from partywall.job_runs')).toEqual([
      {
        receipt: {
          status: 'incomplete',
          failures: [{ tenant: other, reason: `failed for ${other}` }],
          alerts: [{ kind: 'zero' }, { kind: 'zero_tenants', count: 2, tenants: [other] }],
        },
      },
    ]);
    expect(await rows('select tenant_id from partywall.job_visits')).toEqual([{ tenant_id: other }]);
  });

  test('knows every table of schema partywall', async () => {
    const { rows } = await database.query<{ name: string }>(
      "select relname as name from pg_class where relnamespace = 'partywall'::regnamespace and relkind in ('r', 'p')",
    );
    expect(Object.keys(wallTables)).toEqual(expect.arrayContaining(rows.map(({ name }) => name)));
  });

  test('says before what it would do, in the same order and the same numbers as the certificate says after', async () => {
    const tenant = await furnished('Planned');
    const preview = await previewErasure(operation(), { tenant, force: true });
    expect(preview.refusal).toBeNull();
    expect(preview.tables).toEqual([
      { table: 'public.notes', rows: 90 },
      { table: 'public.files', rows: 2 },
      { table: 'public.customers', rows: 30 },
      { table: 'public.users', rows: 1 },
      { table: 'public.tenants', rows: 1 },
    ]);
    await erase({ tenant, force: true });
    const { body } = await readCertificate(operation(), tenant);
    expect(body.tables).toEqual(preview.tables.map(({ table, rows }) => ({ table, before: rows, after: 0 })));
    expect(body.removed).toMatchObject({ people: 1 });
  });

  test('keeps people who belong to another tenant too, and super-admins', async () => {
    const tenant = await furnished('Shared people');
    const elsewhere = await furnished('Elsewhere');
    const email = 'sharedpeople@example.org';
    await database.query(
      `insert into partywall_people."member" ("id", "organizationId", "userId", "role", "createdAt") select $1, $2, "id", 'member', now() from partywall_people."user" where "email" = $3`,
      [randomUUID(), elsewhere, email],
    );
    await erase({ tenant, force: true });
    const { rows } = await database.query(
      `select m."organizationId" as tenant from partywall_people."user" u join partywall_people."member" m on m."userId" = u."id" where u."email" = $1`,
      [email],
    );
    expect(rows).toEqual([{ tenant: elsewhere }]);
  });

  test('is refused within the retention and without force, and under a legal hold even with force', async () => {
    const tenant = await furnished('Refused');
    await expect(eraseTenant(operation(), durable, { tenant })).rejects.toMatchObject({ code: 'transition_refused' });
    await deleteTenant(operation(), { tenant });
    await expect(eraseTenant(operation(), durable, { tenant })).rejects.toMatchObject({ message: expect.stringContaining('that takes force') });
    await holdTenant(operation(), { tenant, reason: 'case 3' });
    await expect(eraseTenant(operation(), durable, { tenant, force: true })).rejects.toMatchObject({ message: expect.stringContaining('legal hold') });
    await unholdTenant(operation(), { tenant, reason: 'over' });
    expect((await erase({ tenant, force: true })).state).toBe('done');
  });

  test('asked for by ten at once happens once', async () => {
    const tenant = await furnished('Ten');
    const begun = await Promise.all(Array.from({ length: 10 }, () => eraseTenant(operation(), durable, { tenant, force: true })));
    expect(new Set(begun.map(({ id }) => id)).size).toBe(1);
    await erase({ tenant, force: true }).catch(() => undefined);
    expect((await listCertificates(operation(), { limit: 100 })).filter(({ body }) => body.tenant.id === tenant)).toHaveLength(1);
  });

  test('keeps everybody out from its first step, and nothing can be brought back', async () => {
    const tenant = await furnished('Out');
    await database.query("update partywall_control.directory set status = 'erasing' where tenant_id = $1", [tenant]);
    await expect(suspendTenant(operation(), { tenant })).rejects.toMatchObject({ code: 'transition_refused', extra: { possible: [] } });
    expect((await erase({ tenant, force: true })).state).toBe('done');
  });
});

describe('a certificate', () => {
  test('is signed, chained, and names the tenant only to those who know it', async () => {
    const first = await furnished('Certified one');
    const second = await furnished('Certified two');
    await erase({ tenant: first, force: true, reason: 'contract ended' });
    await erase({ tenant: second, force: true });
    const [one, two] = [await readCertificate(operation(), first), await readCertificate(operation(), second)];
    expect(await verifyCertificate(operation(), one)).toMatchObject({ valid: true });
    expect(await verifyCertificate(operation(), two)).toMatchObject({ valid: true });
    expect(two.body.previous).toBe(one.hash);
    expect(one.body).toMatchObject({ reason: 'contract ended', requestedBy: { kind: 'operator', id: 'test' } });
    expect(one.text).not.toContain('Certified one');
    expect(one.body.tenant.nameHash).toBe(nameHash(one.body.tenant.nameSalt, 'Certified one'));
  });

  test('does not verify when a character of it, of its signature or of its place in the chain was changed', async () => {
    const tenant = await furnished('Forged');
    await erase({ tenant, force: true });
    const certificate = await readCertificate(operation(), tenant);
    const text = certificate.text.replace('"before":90', '"before":91');
    expect(text).not.toBe(certificate.text);
    expect(await verifyCertificate(operation(), { ...certificate, text })).toMatchObject({ valid: false, problem: 'the signature is not of this text' });
    const signature = certificate.signature.replace(/^./, (first) => (first === 'A' ? 'B' : 'A'));
    expect((await verifyCertificate(operation(), { ...certificate, signature })).valid).toBe(false);
    await database.query('delete from partywall_control.certificates where seq = $1', [certificate.body.number - 1]);
    expect(await verifyCertificate(operation(), certificate)).toMatchObject({
      valid: false,
      problem: expect.stringContaining('is not the one that this one follows'),
    });
  });
});

test('the purge erases whom the retention has released, leaves the held, and accounts for each', async () => {
  const [due, held, later] = [await furnished('Due'), await furnished('Due but held'), await furnished('Not due')];
  for (const tenant of [due, held, later]) await deleteTenant(operation(), { tenant });
  await holdTenant(operation(), { tenant: held, reason: 'case 9' });
  await database.query("update partywall_control.directory set retained_until = now() - interval '1 second' where tenant_id = any ($1)", [[due, held]]);
  expect(await purgeRetained(operation(), durable)).toEqual({ due: 2, visited: 2, erased: [due], held: [held], failed: [] });
  expect((await showTenant(operation(), later)).status).toBe('deleted');
});
