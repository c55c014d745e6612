import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { controlPool, setAlertRule, showAlertRule } from '@partywall/engine';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { receiver } from '../../server/test/delivery/receiver.ts';
import { json, partywall } from './support/command.ts';
import { controlledPortal } from './support/portal.ts';

const on = await controlledPortal();
const { model, service } = on;
const operator = { cwd: on.cwd, env: { PARTYWALL_SERVICE_URL: service, PARTYWALL_OPERATOR: 'ada', PARTYWALL_PRIVATE_TARGETS: 'allow' } };
const secret = 'a secret of enough length';

const pool = controlPool(service, { purpose: 'test' });
afterAll(() => pool.end());
let tenant = '';

beforeAll(async () => {
  // No quota is counted here, so a tenant's failures have to do; what the test server's connections amount to is left alone.
  const operation = { database: { pool, model, clock: () => new Date(), keyring: '' }, actor: { kind: 'operator', id: 'test' } } as const;
  for (const name of ['connections', 'total_error_rate']) await setAlertRule(operation, { ...(await showAlertRule(operation, name)), enabled: false });
  const { rows } = await pool.query<{ tenant_id: string }>('select tenant_id from partywall_control.directory order by tenant_id');
  tenant = rows[0]?.tenant_id ?? '';
  await pool.query(
    "insert into partywall_control.request_minutes (tenant_id, minute, calls, errors, millis, buckets) values ($1, date_trunc('minute', now()), 100, 3, 0, '{100,0,0,0,0,0,0,0,0,0,0}')",
    [tenant],
  );
});

describe('alerts', () => {
  test('are evaluated, listed and acknowledged', async () => {
    expect(await partywall(['alerts', 'evaluate'], operator)).toMatchObject({
      status: 0,
      stdout: '1 opened, 0 escalated, 0 resolved, 0 go on; 0 messages on their way\n',
    });
    const { stdout } = await partywall(['alerts', 'list'], operator);
    expect(stdout).toMatch(/^warning {3}\S+ {2}.+: Error rate at 3 % \(warning over 1 %\)\n {10}[0-9a-f-]{36}\n$/);
    const { items } = json(await partywall(['alerts', 'list', '--tenant', tenant, '--json'], operator)) as { items: { id: string }[] };
    const id = items[0]?.id ?? '';
    const acknowledged = await partywall(['alerts', 'acknowledge', id, '--note', 'being looked at'], operator);
    expect(acknowledged).toMatchObject({ status: 0, stdout: expect.stringContaining('acknowledged by ada') });
    expect((await partywall(['alerts', 'list', '--severity', 'critical'], operator)).stdout).toBe('no alert is open\n');
    const { rows } = await pool.query('select actor_kind, actor_id, reason from partywall_control.audit_records where target = $1', [`alert:${id}`]);
    expect(rows).toEqual([{ actor_kind: 'operator', actor_id: 'ada', reason: 'being looked at' }]);
  });

  test('that are not there end with 2', async () => {
    const nothing = '9ac5d9f2-63b5-4a64-8f4d-1bb5a4f7b6f1';
    expect(await partywall(['alerts', 'acknowledge', nothing], operator)).toMatchObject({ status: 2, stderr: expect.stringContaining(nothing) });
    expect(await partywall(['alerts', 'acknowledge', 'first'], operator)).toMatchObject({ status: 2 });
    expect(await partywall(['alerts', 'list', '--limit', '0'], operator)).toMatchObject({ status: 2 });
    expect(await partywall(['alerts', 'evaluate', '--tenant', 'nobody'], operator)).toMatchObject({ status: 2 });
    expect(await partywall(['alerts'], operator)).toMatchObject({ status: 2 });
  });

  test('are purged when they are old, and these are not', async () => {
    expect(await partywall(['alerts', 'purge'], operator)).toMatchObject({ status: 0, stdout: 'deleted 0 alerts and 0 messages\n' });
  });

  test('have rules with the documented thresholds', async () => {
    const { stdout } = await partywall(['alerts', 'rules'], operator);
    expect(stdout).toMatch(/^error_rate +error_rate {2}warning over 1 %, critical 5 %$/m);
    expect(stdout).toMatch(/^storage +quota {2}warning at 80 %, critical 95 %$/m);
    expect(stdout).toMatch(/^connections .*, off$/m);
  });
});

describe('channels', () => {
  test('are set from a file, tested and removed, and never show what is secret', async () => {
    const target = await receiver();
    await writeFile(
      path.join(on.cwd, 'channel.json'),
      JSON.stringify({ kind: 'webhook', target: { url: `${target.url}/hidden`, secret }, severities: ['critical'] }),
    );
    const runs = [
      await partywall(['alerts', 'channels'], operator),
      await partywall(['alerts', 'channels', 'set', 'ops', 'channel.json'], operator),
      await partywall(['alerts', 'channels', 'test', 'ops'], operator),
      await partywall(['alerts', 'channels', '--json'], operator),
      await partywall(['alerts', 'channels', 'remove', 'ops'], operator),
    ];
    expect(runs.map(({ status }) => status)).toEqual([0, 0, 0, 0, 0]);
    expect(runs[0]?.stdout).toBe('no channels: nobody is told\n');
    expect(runs[1]?.stdout).toBe(`added ops: webhook to ${target.url}, critical\n`);
    expect(runs[2]?.stdout).toBe('delivered through ops\n');
    expect(target.received.map(({ path: received }) => received)).toEqual(['/hidden']);
    expect(JSON.stringify(runs)).not.toMatch(/hidden|a secret of/);
  });

  test('that cannot be reached say why, and end with 1', async () => {
    const target = await receiver();
    await writeFile(path.join(on.cwd, 'channel.json'), JSON.stringify({ kind: 'slack', target: { url: target.url } }));
    await partywall(['alerts', 'channels', 'set', 'chat', 'channel.json'], operator);
    const outside = { ...operator, env: { ...operator.env, PARTYWALL_PRIVATE_TARGETS: '' } };
    expect(await partywall(['alerts', 'channels', 'test', 'chat'], outside)).toMatchObject({
      status: 1,
      stdout: 'not delivered through chat: the address leads into a private network\n',
    });
  });

  test('from a file that does not describe one are refused, without what it holds', async () => {
    const refused: [text: string, says: string][] = [
      ['{"kind": "webhook", "target": {"url": "https://hooks.example", "secret": "hunter2"}}', 'target.secret'],
      ['{"kind": "webhook", "target": {"url": "ftp://hunter2.example", "secret": "a secret of enough length"}}', 'begins with ftp:'],
      ['{"hunter2', 'it is not JSON'],
    ];
    for (const [text, says] of refused) {
      await writeFile(path.join(on.cwd, 'channel.json'), text);
      const { status, stderr } = await partywall(['alerts', 'channels', 'set', 'ops', 'channel.json'], operator);
      expect(status).toBe(2);
      expect(stderr).toContain(says);
      expect(stderr).not.toContain('hunter2');
    }
    expect(await partywall(['alerts', 'channels', 'set', 'ops', 'nowhere.json'], operator)).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('no such file'),
    });
    expect(await partywall(['alerts', 'channels', 'remove', 'ops'], operator)).toMatchObject({ status: 2 });
  });

  test('a mail server that is described wrongly is an error that does not repeat the password', async () => {
    const env = { ...operator.env, PARTYWALL_SMTP_URL: 'smtp://alerts:hunter2@' };
    const { status, stderr } = await partywall(['alerts', 'channels', 'test', 'chat'], { ...operator, env });
    expect(status).toBe(2);
    expect(stderr).toContain('PARTYWALL_SMTP_URL');
    expect(stderr).not.toContain('hunter2');
  });
});
