import { connect } from '@partywall/engine';
import { expect, test } from 'vitest';
import { json, partywall } from './support/command.ts';
import { portal } from './support/portal.ts';

const on = await portal();
await partywall(['apply', '--phase', 'expand'], on);
await partywall(['migrate'], on);
const env = { PARTYWALL_SERVICE_URL: on.database.urlAs(on.roles.service), PARTYWALL_OPERATOR: 'kari' };
const run = (args: readonly string[], more: Record<string, string> = {}) => partywall(['admin', ...args], { cwd: on.cwd, env: { ...env, ...more } });

test('the first super-admin gets a generated password, printed once and stored hashed', async () => {
  const made = await run(['create', '--email', 'Ops@Example.com', '--name', 'Operations', '--generate']);
  expect(made).toMatchObject({ status: 0 });
  const [, password = ''] = /shown this once: (\S+)/.exec(made.stdout) ?? [];
  expect(password.length).toBeGreaterThanOrEqual(24);
  const client = await connect(on.database.url, { purpose: 'test' });
  const { rows } = await client.query<{ text: string; hash: string }>(
    `select u::text || r::text as text, a."password" as hash from partywall_people."user" u join partywall_people."account" a on a."userId" = u."id",
     partywall_control.audit_records r where r.action = 'super_admin.create' and r.actor_id = 'kari'`,
  );
  await client.end();
  expect(rows).toHaveLength(1);
  expect(JSON.stringify(rows)).not.toContain(password);
  expect(rows[0]?.hash).toMatch(/^[0-9a-f]{32}:[0-9a-f]{128}$/);
  expect(json(await run(['list', '--json']))).toMatchObject({ items: [{ email: 'ops@example.com', name: 'Operations' }] });
});

test('without a password nobody is made, and a short one or a taken address is refused without repeating it', async () => {
  expect(await run(['create', '--email', 'a@example.com'])).toMatchObject({ status: 2, stderr: expect.stringContaining('no password given') });
  const short = await run(['create', '--email', 'a@example.com'], { PARTYWALL_ADMIN_PASSWORD: 'hunter2' });
  expect(short).toMatchObject({ status: 2, stderr: expect.stringContaining('10 to 128 characters') });
  expect(short.stderr + short.stdout).not.toContain('hunter2');
  const taken = await run(['create', '--email', 'ops@example.com'], { PARTYWALL_ADMIN_PASSWORD: 'correct horse battery' });
  expect(taken).toMatchObject({ status: 2, stderr: expect.stringContaining('somebody has that address already') });
  expect(await run(['create', '--email', 'nobody@example.com', '--existing'])).toMatchObject({ status: 2 });
  expect(await run(['create', '--email', 'ops@example.com', '--existing'])).toMatchObject({ status: 0, stdout: 'ops@example.com is super-admin\n' });
});
