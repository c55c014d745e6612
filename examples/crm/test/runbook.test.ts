import { execFile } from 'node:child_process';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import crmTenancy from '../partywall.config.ts';
import { demoTenants } from '../src/demo-tenants.ts';
import { type WalledCrm, walledCrm } from './walled-crm.ts';

const [alder, brightwater] = demoTenants;
const password = 'a password of the runbook';

interface Block {
  /** The nearest heading above it. */
  readonly heading: string;
  readonly language: string;
  readonly text: string;
}

const provisioned = z.object({ tenant: z.object({ id: z.guid() }) });

interface Ran {
  readonly status: number;
  readonly output: string;
  readonly errors: string;
}

const runbook = await fs.readFile(new URL('../RUNBOOK.md', import.meta.url), 'utf8');

function blocks(): Block[] {
  const found: Block[] = [];
  let heading = '';
  for (const match of runbook.matchAll(/^(#+ (?<heading>.+))$|^```(?<language>\w+)\n(?<text>[\s\S]*?)^```$/gm)) {
    const { groups = {} } = match;
    if (groups['heading'] !== undefined) heading = groups['heading'];
    else found.push({ heading, language: groups['language'] ?? '', text: groups['text'] ?? '' });
  }
  return found;
}

/** Programs that the page names, told where this test's server, database and log are. A failed request fails the block. */
const preamble = `set -euo pipefail
curl() { command curl --silent --show-error --fail-with-body "$@"; echo; }
psql() { command psql --no-psqlrc --quiet -h "$CRM_HOST" -p "$CRM_PORT" -U "$CRM_USER" -d "$CRM_DATABASE" "\${@:7}"; }
tail() { command tail -n 1 "$CRM_LOG"; }
npx() { shift; "$CRM_NODE" "$CRM_CLI" "$@"; }
`;

describe('the runbook', () => {
  let crm: WalledCrm;
  let folder: string;
  let origin: string;
  let env: Record<string, string>;
  const mails: { to: string; subject: string }[] = [];
  const words: Record<string, string> = {};
  beforeAll(async () => {
    crm = await walledCrm({ mail: async ({ to, subject }) => void mails.push({ to, subject }) });
    origin = await crm.app.listen({ host: '127.0.0.1', port: 0 });
    folder = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-runbook-'));
    await fs.writeFile(path.join(folder, 'partywall.config.ts'), `export default ${JSON.stringify({ ...crmTenancy, roles: crm.control.model.roles })};\n`);
    await fs.writeFile(path.join(folder, 'postgresql.log'), 'LOG:  database system is ready to accept connections\n');
    const url = new URL(crm.database.url);
    env = {
      PATH: process.env['PATH'] ?? '',
      HOME: folder,
      DATABASE_URL: crm.database.url,
      PARTYWALL_APP_URL: crm.database.urlAs(crm.control.model.roles.app),
      PARTYWALL_SERVICE_URL: crm.database.urlAs(crm.control.model.roles.service),
      PARTYWALL_KEYRING: crm.control.keyring,
      CRM_HOST: url.hostname,
      CRM_PORT: url.port,
      CRM_USER: url.username,
      CRM_DATABASE: crm.database.name,
      CRM_LOG: path.join(folder, 'postgresql.log'),
      CRM_NODE: process.execPath,
      CRM_CLI: path.resolve(import.meta.dirname, '../../../packages/cli/bin/partywall.js'),
    };
    const operator = await crm.person({ superAdmin: true, password });
    Object.assign(words, {
      email: operator.email,
      password,
      super_admin_token: operator.token,
      tenant_a_token: await crm.token(alder),
      tenant_b_token: await crm.token(brightwater),
      tenant_admin_token: await crm.token(brightwater),
      token: await crm.token(brightwater),
      tenant_id: brightwater.id,
      in_30_days: new Date(Date.now() + 30 * 86_400_000).toISOString(),
    });
  });
  afterAll(() => fs.rm(folder, { recursive: true, force: true }));

  const filled = (text: string): string =>
    text.replaceAll(/<(\w+)>/g, (_, word: string) => words[word] ?? `unset-${word}`).replaceAll('http://localhost:5000', origin);

  const shell = (text: string): Promise<Ran> =>
    new Promise((resolve) => {
      execFile('/bin/bash', ['-c', preamble + filled(text)], { cwd: folder, env, encoding: 'utf8' }, (error, output, errors) => {
        resolve({ status: typeof error?.code === 'number' ? error.code : error ? -1 : 0, output, errors });
      });
    });

  /** JSON values of the output, a line each. */
  const answers = (output: string): Record<string, unknown>[] =>
    output.split('\n').flatMap((line) => (line.startsWith('{') ? [JSON.parse(line) as Record<string, unknown>] : [])); // looked at by each test

  /** Runs the blocks below a heading in their order; each must succeed. */
  const run = async (heading: string): Promise<string> => {
    const own = blocks().filter((block) => block.heading === heading && block.language === 'bash');
    expect(own.length, heading).toBeGreaterThan(0);
    let output = '';
    for (const { text } of own) {
      const ran = await shell(text);
      expect(ran.status, `${text}\n${ran.output}${ran.errors}`).toBe(0);
      output += ran.output;
    }
    return output;
  };

  const statusOf = async (tenant: string): Promise<unknown> =>
    (await crm.database.query('select status from partywall_control.directory where tenant_id = $1', [tenant])).rows[0]?.['status'];

  it('signs in', async () => {
    const [answer] = answers(await run('CRM runbook'));
    expect(answer?.['token']).toEqual(expect.any(String));
    words['super_admin_token'] = String(answer?.['token']);
  });

  it('checks health', async () => {
    const output = await run('Health checks');
    expect(answers(output)[0]).toMatchObject({ status: 'ok', database: 'ok' });
    expect(output).toMatch(/\(1 row\)/);
  });

  it('verifies isolation: two tenants see different customers, and the wall is sound', async () => {
    const output = await run('Verify tenant isolation');
    const [a, b] = answers(output).map(({ items }) => (items as { id: string }[]).map(({ id }) => id));
    expect(a).toHaveLength(50);
    expect(a?.filter((id) => b?.includes(id))).toEqual([]);
    expect(output).toMatch(/sound/);
  });

  it('shows metrics and alerts', async () => {
    const [alerts, metrics] = answers(await run('Check system metrics'));
    expect(alerts).toMatchObject({ items: expect.any(Array) });
    expect(metrics).toMatchObject({ tenants: { total: 3 } });
  });

  it('takes a tenant through its life: provision, suspend, reactivate, cancel, delete softly, delete for good', async () => {
    const [made] = answers(await run('Provision new tenant'));
    const { tenant } = provisioned.parse(made);
    expect(answers(await run('Provision new tenant'))[0]).toMatchObject({ tenant, created: false });
    const known = words['tenant_id'];
    words['tenant_id'] = tenant.id;
    try {
      for (const [heading, status] of [
        ['Suspend tenant', 'suspended'],
        ['Reactivate tenant', 'active'],
        ['Cancel tenant', 'cancelled'],
      ] as const) {
        await run(heading);
        expect(await statusOf(words['tenant_id']), heading).toBe(status);
      }
      const [, certificate] = answers(await run('Delete tenant'));
      expect(JSON.stringify(certificate)).toContain('signature');
      expect(await statusOf(words['tenant_id'])).toBeUndefined();
      expect((await crm.database.query('select from tenants where id = $1', [words['tenant_id']])).rowCount).toBe(0);
    } finally {
      words['tenant_id'] = known ?? '';
    }
  });

  it('answers a breach: suspends, looks, verifies, lets in again, tells the tenant and writes it down', async () => {
    const output = await run('Data isolation breach');
    expect(output).toMatch(/sound/);
    expect(mails.map(({ subject }) => subject)).toContain('Security incident');
    expect(await statusOf(brightwater.id)).toBe('active');
  });

  it('answers an exceeded quota, and all of it is in the audit log', async () => {
    await run('Quota exceeded');
    const { rows } = await crm.database.query('select action from partywall_control.audit_records where tenant_id = $1 order by seq desc limit 2', [
      brightwater.id,
    ]);
    expect(rows.map(({ action }) => action).sort()).toEqual(['quota.increase', 'tenant.plan_change']);
  });

  it('finds who takes the most, and limits one tenant', async () => {
    expect(answers(await run('Performance degradation')).length).toBeGreaterThan(3);
  });

  it('exports a tenant and brings it back to that', async () => {
    await run('Export tenant data');
    const before = await crm.database.query('select count(*)::int as n from customers where tenant_id = $1', [brightwater.id]);
    await crm.database.query('delete from customers where id in (select id from customers where tenant_id = $1 limit 5)', [brightwater.id]);
    const [report] = answers(await run('Restore tenant data'));
    expect(report).toMatchObject({ applied: true, hashEqual: true });
    expect((await crm.database.query('select count(*)::int as n from customers where tenant_id = $1', [brightwater.id])).rows).toEqual(before.rows);
  });

  it.each([
    'Monitoring and alerts',
    'Tenant cannot access data',
    'Quota enforcement not working',
    'Database connection issues',
    'Audit logs not recording',
    'Useful commands',
  ])('runs the commands of "%s"', async (heading) => {
    await run(heading);
  });

  it('has SQL that an operator of the database runs as it is written', async () => {
    const [block] = blocks().filter(({ language }) => language === 'sql');
    const client = new pg.Client(crm.database.urlAs(crm.control.model.roles.operator ?? ''));
    await client.connect();
    try {
      const statements = filled(block?.text ?? '')
        .split(/;\s*$/m)
        .filter((statement) => statement.trim() !== '');
      const results = [];
      for (const statement of statements) results.push((await client.query(statement)).rows);
      expect(results).toHaveLength(3);
      expect(results[0]).toEqual([{ id: brightwater.id, name: brightwater.name, status: 'active', plan: 'enterprise' }]);
      expect(results[1]).toMatchObject([{ tenant_id: brightwater.id }]);
      expect(results[2]?.length).toBeGreaterThan(5);
    } finally {
      await client.end();
    }
  });

  it('has every command of the document that it replaces', async () => {
    const commands = [
      'curl http://localhost:5000/api/health',
      'psql -h localhost -U postgres -d crm -c "SELECT 1"',
      'http://localhost:5000/api/customers',
      'http://localhost:5000/api/admin/alerts',
      'curl -X POST http://localhost:5000/api/admin/tenants/provision',
      ...['suspend', 'reactivate', 'cancel', 'delete'].map((verb) => `curl -X POST http://localhost:5000/api/admin/tenants/<tenant_id>/${verb}`),
      `-d '{"hardDelete": false}'`,
      `-d '{"hardDelete": true, "force": true}'`,
      'curl -X GET "http://localhost:5000/api/tenants/export?tenantId=<tenant_id>"',
      '-o tenant-export.json',
      'curl -X POST http://localhost:5000/api/admin/tenants/restore',
      '-d @tenant-export.json',
      'http://localhost:5000/api/tenants/alerts',
      'http://localhost:5000/api/admin/tenants/<tenant_id>',
      'http://localhost:5000/api/tenants/quotas',
      'tail -f /var/log/postgresql/postgresql.log',
      'curl -X POST http://localhost:5000/api/test/audit',
      'http://localhost:5000/api/admin/tenants',
      '"http://localhost:5000/api/audit-logs?tenantId=<tenant_id>"',
      "SELECT id, name, status, plan FROM tenants WHERE id = '<tenant_id>';",
      "SELECT * FROM tenant_usage_metrics WHERE tenant_id = '<tenant_id>';",
      'SELECT * FROM audit_logs',
      'ORDER BY created_at DESC',
    ];
    expect(commands.filter((command) => !runbook.includes(command))).toEqual([]);
  });
});
