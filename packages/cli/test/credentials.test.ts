import fs from 'node:fs/promises';
import path from 'node:path';
import { startEmbedded } from '@partywall/engine';
import pg from 'pg';
import { afterAll, expect, test } from 'vitest';
import { folder, json, partywall } from './support/command.ts';

// A cluster of its own: the one that tests share trusts everybody.
const cwd = await folder();
await fs.chmod(cwd, 0o755);
const server = await startEmbedded({ dataDir: path.join(cwd, 'data'), major: Number(process.env['PARTYWALL_PG_MAJOR'] ?? '18') });
afterAll(() => server.stop());
const admin = new pg.Client(server.url);
await admin.connect();
afterAll(() => admin.end());
await admin.query('create table tenants (id int primary key, name text); create table things (id int primary key, tenant_id int not null references tenants)');

const file = path.join(cwd, '.partywall/roles.env');
const appUrl = async (): Promise<string> => /PARTYWALL_APP_URL=(.*)/.exec(await fs.readFile(file, 'utf8'))?.[1] ?? '';

test('a rotated password is proved, kept for its owner alone, and recorded without it', async () => {
  const on = { cwd, env: { DATABASE_URL: server.url, PARTYWALL_OPERATOR: 'kari' } };
  // Raises the wall and makes the logins; what it says of tables without rows is not the matter here.
  await partywall(['up', '--yes', '--skip-gate'], on);
  expect((await partywall(['migrate'], on)).status).toBe(0);
  const [own = ''] = (await fs.readdir(path.join(cwd, '.partywall'))).filter((name) => name.endsWith('.env'));
  await fs.rename(path.join(cwd, '.partywall', own), file);
  const before = await appUrl();
  const rotated = await partywall(['credentials', 'rotate', '--role', 'app', '--json'], on);
  expect(json(rotated)).toMatchObject({ proof: Array.from({ length: 4 }, () => ({ holds: true })) });
  const after = await appUrl();
  expect(after).not.toBe(before);
  expect((await fs.stat(file)).mode & 0o777).toBe(0o600);
  await expect(new pg.Client(before).connect()).rejects.toMatchObject({ code: '28P01' });
  const { rows } = await admin.query<{ actor_id: string; text: string }>(
    `select actor_id, r::text as text from partywall_control.audit_records r where action = 'credentials.rotate'`,
  );
  expect(rows).toMatchObject([{ actor_id: 'kari' }]);
  for (const text of [rows[0]?.text, rotated.stdout, rotated.stderr]) expect(text).not.toContain(new URL(after).password);
});
