import fs from 'node:fs/promises';
import path from 'node:path';
import { appendAudit, controlPool, type Operation } from '@partywall/engine';
import { afterAll, expect, test } from 'vitest';
import { json, partywall } from './support/command.ts';
import { controlledPortal } from './support/portal.ts';

const on = await controlledPortal();
const { model } = on;
const admin = controlPool(on.database.url, { purpose: 'test' });
afterAll(() => admin.end());

const keyring = path.join(on.cwd, 'keys');
const env = { PARTYWALL_SERVICE_URL: on.service, PARTYWALL_OPERATOR: 'kari', PARTYWALL_KEYRING: keyring };
const run = (...args: string[]) => partywall(['audit', ...args], { cwd: on.cwd, env });
const acme = '11111111-1111-4111-8111-111111111111';
const operation: Operation = {
  database: { pool: admin, model, clock: () => new Date(), keyring },
  actor: { kind: 'user', id: 'ann', name: 'Ann\u001b[2J\u202e', address: '192.0.2.1' },
};
await appendAudit(admin, operation, { tenant: acme, action: 'tenant.suspend', reason: 'unpaid' });
await appendAudit(admin, operation, { tenant: acme, action: 'access.cross_tenant', target: 'GET /api/customers', details: { times: 2 } }, 'denied');

test('search lists records for people and for programs, and obeys nothing that a record holds', async () => {
  const found = await run('search', '--tenant', acme);
  expect(found.status).toBe(0);
  expect(found.stdout).toMatch(
    /^\S+Z {2}11111111-\S+ #2 {2}DENIED {2}access\.cross_tenant {2}user:Ann\\u\{1b\}\[2J\\u\{202e\} from 192\.0\.2\.1 {2}GET \/api\/customers {2}\{"times":2\}$/m,
  );
  expect(found.stdout).not.toContain('\u001b');
  expect(found.stdout).not.toContain('\u202e');
  expect(json(await run('search', '--action', 'tenant.', '--json'))).toMatchObject({ items: [{ tenantId: acme, seq: 1, reason: 'unpaid' }] });
  expect((await run('search', '--outcome', 'denied', '--from', '2999-01-01')).stdout).toBe('no records\n');
});

test('anchors are printed to be kept, and verify holds the chains to them', async () => {
  const printed = await run('anchor');
  expect(printed.status).toBe(0);
  await fs.writeFile(path.join(on.cwd, 'anchors.jsonl'), printed.stdout);
  const sound = await run('verify', '--anchors', 'anchors.jsonl');
  expect(sound).toMatchObject({ status: 0, stdout: expect.stringMatching(/^sound: 3 records in 2 of 2 chains, 4 anchors\n$/) });

  await on.database.query('delete from partywall_control.audit_anchors');
  await on.database.query('delete from partywall_control.audit_records where tenant_id = $1 and seq = 2', [acme]);
  await on.database.query(
    `update partywall_control.audit_heads h set seq = 1, hash = (select hash from partywall_control.audit_records r where r.tenant_id = h.tenant_id and seq = 1) where tenant_id = $1`,
    [acme],
  );
  expect((await run('verify')).status).toBe(0);
  const cut = await run('verify', '--anchors', 'anchors.jsonl', '--tenant', acme);
  expect(cut.status).toBe(1);
  expect(cut.stdout).toMatch(/^broken: 11111111-\S+: record 2 is missing at the end: the anchor of \S+ reaches further$/m);
  expect(json(await run('verify', '--anchors', 'anchors.jsonl', '--json'))).toMatchObject({
    sound: false,
    faults: [{ tenantId: acme, seq: 2, kind: 'missing' }],
  });
});

test('an export verifies without the database, and not after a change', async () => {
  const written = await run('export', '--output', 'audit.jsonl');
  expect(written).toMatchObject({ status: 0, stderr: '' });
  const file = path.join(on.cwd, 'audit.jsonl');
  expect((await fs.stat(file)).mode & 0o777).toBe(0o600);
  expect((await fs.readdir(on.cwd)).filter((name) => name.includes('partial'))).toEqual([]);
  const alone = (...args: string[]) => partywall(['audit', 'verify', ...args], { cwd: on.cwd, env: { PARTYWALL_KEYRING: keyring } });
  expect(await alone('--file', 'audit.jsonl')).toMatchObject({ status: 0, stdout: expect.stringContaining('sound: ') });
  const printed = await run('keys');
  await fs.writeFile(path.join(on.cwd, 'keys.pem'), printed.stdout);
  const auditor = (...args: string[]) => partywall(['audit', 'verify', '--file', 'audit.jsonl', ...args], { cwd: on.cwd, env: { PARTYWALL_KEYRING: 'none' } });
  expect(await auditor('--keys', 'keys.pem')).toMatchObject({ status: 0, stdout: expect.stringContaining('sound: ') });
  expect(await auditor('--keys', 'audit.jsonl')).toMatchObject({ status: 2, stderr: expect.stringContaining('the text holds none') });
  const text = await fs.readFile(file, 'utf8');
  await fs.writeFile(file, text.replace('unpaid', 'unfair'));
  expect(await alone('--file', 'audit.jsonl')).toMatchObject({
    status: 1,
    stdout: expect.stringMatching(/^broken: line \d+ is no line of an export, or does not say what its text says$/m),
  });
});

test('pruning shows what would go and asks, and what is young stays', async () => {
  expect((await run('prune', '--dry-run')).stdout).toMatch(/^would remove 0 records of 0 chains \(2 of 2 visited, 0 held\)\n$/);
  expect(await run('prune')).toMatchObject({ status: 0, stdout: 'removed 0 records of 0 chains; visited 2 of 2, 0 held\n' });
  await on.database.query("update partywall_control.audit_records set at = at - interval '10 years' where tenant_id = $1", [acme]);
  expect(await run('prune')).toMatchObject({ status: 2, stderr: expect.stringContaining('about to remove 1 records of 1 chains') });
  expect(await run('prune', '--yes')).toMatchObject({ status: 0, stdout: 'removed 1 records of 1 chains; visited 2 of 2, 0 held\n' });
  expect((await run('search', '--tenant', acme)).stdout).toMatch(/#2 {2}done {2}audit\.prune {2}operator:kari /);
});

test.each([
  [['search', '--limit', '0']],
  [['search', '--from', 'yesterday']],
  [['search', '--tenant', acme, '--platform']],
  [['verify', '--anchors', 'nowhere.jsonl']],
  [['verify', '--file', '.']],
  [['verify', '--anchors', 'partywall.config.ts']],
  [['export']],
  [['export', '--output', 'no/such/folder/audit.jsonl']],
])('partywall audit %j is refused with status 2 and a reason', async (args) => {
  const { status, stderr, stdout } = await run(...args);
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
  expect(stderr).toMatch(/\S/);
});
