import { createPublicKey, verify } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import { appendDenial, controlPool, type Operation } from '@partywall/engine';
import { afterAll, expect, test } from 'vitest';
import { json, partywall } from './support/command.ts';
import { controlledPortal } from './support/portal.ts';

const on = await controlledPortal('contract');
const { model } = on;
const admin = controlPool(on.database.url, { purpose: 'test' });
afterAll(() => admin.end());
const keyring = path.join(on.cwd, 'keys');
const env = {
  ...on.env,
  PARTYWALL_APP_URL: on.database.urlAs(on.roles.app),
  PARTYWALL_SERVICE_URL: on.service,
  PARTYWALL_KEYRING: keyring,
};
const operation: Operation = { database: { pool: admin, model, clock: () => new Date(), keyring }, actor: { kind: 'user', id: 'ann' } };
const acme = '11111111-1111-4111-8111-111111111111';
await appendDenial(operation, { tenant: acme, action: 'access.cross_tenant', details: { times: 3 } });

test('one report says whether wall, audit log and erasures hold, and its signature verifies', async () => {
  const ran = await partywall(['evidence', '--output', 'evidence.json'], { cwd: on.cwd, env });
  expect(ran.stdout).toMatch(/^wall {8}sound/m);
  expect(ran.stdout).toMatch(/^audit log {3}whole: \d+ records/m);
  expect(ran.stdout).toMatch(/^refused {5}access\.cross_tenant 3 \(90 days\)$/m);
  expect(ran.status).toBe(0);

  const signed: unknown = JSON.parse(await fs.readFile(path.join(on.cwd, 'evidence.json'), 'utf8'));
  expect(signed).toMatchObject({ text: expect.any(String), keyId: expect.any(String), signature: expect.any(String) });
  const { text, signature } = signed as { text: string; signature: string }; // as just matched
  const keys = (await partywall(['audit', 'keys'], { cwd: on.cwd, env })).stdout;
  const key = createPublicKey(/-----BEGIN PUBLIC KEY-----[\s\S]+?-----END PUBLIC KEY-----/.exec(keys)?.[0] ?? '');
  expect(verify(null, Buffer.from(text), key, Buffer.from(signature, 'base64'))).toBe(true);
  expect(verify(null, Buffer.from(text.replace('"sound":true', '"sound":false')), key, Buffer.from(signature, 'base64'))).toBe(false);
  expect(JSON.parse(text)).toMatchObject({ format: 'partywall.evidence/1', wall: { sound: true }, control: { tenants: { active: expect.any(Number) } } });
});

test('a changed audit record makes it no evidence: exit status 1, and the report says which chain', async () => {
  await on.database.query("update partywall_control.audit_records set reason = 'another' where tenant_id = $1 and seq = 1", [acme]);
  const ran = await partywall(['evidence', '--json'], { cwd: on.cwd, env });
  expect(ran.status).toBe(1);
  expect(json(ran)).toMatchObject({ control: { audit: { sound: false, faults: [{ tenantId: acme }] } } });
});

test('a period that is none is refused', async () => {
  expect(await partywall(['evidence', '--days', '0'], { cwd: on.cwd, env })).toMatchObject({ status: 2, stderr: expect.stringContaining('1 to 3650') });
});
