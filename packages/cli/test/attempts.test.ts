import { expect, test } from 'vitest';
import { json, partywall } from './support/command.ts';
import { controlledPortal } from './support/portal.ts';

const on = await controlledPortal();
const operator = { cwd: on.cwd, env: { PARTYWALL_SERVICE_URL: on.service, PARTYWALL_OPERATOR: 'ada' } };
const run = (...args: string[]) => partywall(['attempts', ...args], operator);
const source = '198.51.100.7';

async function attempt(more: Record<string, unknown> = {}): Promise<void> {
  const given = { kind: 'tenant', source, route: 'GET /items', actor: 'mallory', tenant: 't_1', claimed: 't_2', requestId: 'r-1', ...more };
  await on.database.query('select partywall.record_attempt($1)', [JSON.stringify(given)]);
}

test('attempts are listed, with nothing in them that a terminal obeys', async () => {
  expect(await run('list')).toMatchObject({ status: 0, stdout: 'no attempts\n' });
  await attempt();
  await attempt({ source: '198.51.100.8', kind: 'row', claimed: null, actor: '\u202egnp' });
  const { stdout } = await run('list');
  expect(stdout.split('\n').map((line) => line.replace(/^\S+ {2}/, ''))).toEqual([
    '198.51.100.8  wrote a row of another tenant, of tenant t_1, by  gnp, GET /items, request r-1',
    `${source}  named tenant t_2, of tenant t_1, by mallory, GET /items, request r-1`,
    '',
  ]);
  expect(json(await run('list', '--source', source, '--since', '2026-01-01', '--json'))).toMatchObject({ items: [{ source, claimed: 't_2', times: 1 }] });
  expect((await run('list', '--tenant', 'nobody')).stdout).toBe('no attempts\n');
});

test('records that gave way to a flood are listed as such', async () => {
  await on.database.query("insert into partywall.attempts (at, last_at, times, kind) values ('2026-11-21T02:00:00Z', '2026-11-21T02:00:59Z', 48, 'gone')");
  const { stdout } = await run('list');
  await on.database.query("delete from partywall.attempts where kind = 'gone'");
  expect(stdout).toContain('2026-11-21T02:00:00.000Z  until 2026-11-21T02:00:59.000Z the records of 48 older attempts gave way: a flood\n');
});

test('a source is blocked after its attempts, shown, unblocked, and blocked by hand, each on record', async () => {
  for (let at = 0; at < 5; at += 1) await attempt();
  expect((await run('blocks')).stdout).toMatch(new RegExp(`^${source} until \\S+Z, after 5 attempts\n$`));
  expect(await run('unblock', source, '--reason', 'the monitor')).toMatchObject({ status: 0, stdout: `unblocked ${source}\n` });
  expect(await run('unblock', source)).toMatchObject({ status: 1, stdout: `${source} is not blocked\n` });
  expect(await run('blocks')).toMatchObject({ status: 0, stdout: 'no source is blocked\n' });
  expect((await run('blocks', '--all')).stdout).toMatch(/ ended /);
  const blocked = await run('block', '203.0.113.0/24', '--minutes', '90', '--reason', 'incident 12');
  expect(blocked.stdout).toMatch(/^blocked 203\.0\.113\.0\/24 until \S+Z, by ada, incident 12\n$/);
  expect(json(await run('blocks', '--json'))).toMatchObject({ items: [{ source: '203.0.113.0/24', blockedBy: 'ada', active: true }] });
  expect(await run('unblock', '203.0.113.5')).toMatchObject({ status: 2, stderr: expect.stringContaining('part of 203.0.113.0/24') });
  const { rows } = await on.database.query(
    "select action, target, reason, actor_id from partywall_control.audit_records where action like 'source.%' order by seq",
  );
  expect(rows).toEqual([
    { action: 'source.unblock', target: `source:${source}/32`, reason: 'the monitor', actor_id: 'ada' },
    { action: 'source.block', target: 'source:203.0.113.0/24', reason: 'incident 12', actor_id: 'ada' },
  ]);
});

test('the settings are shown and changed', async () => {
  expect(await run('settings')).toMatchObject({ status: 0, stdout: '5 attempts within 10 minutes block their source for 15 minutes\n' });
  const changed = await run('settings', '--threshold', '3', '--window', '5', '--block', '60', '--exempt', '10.0.0.0/8, 203.0.113.5');
  expect(changed.stdout).toBe('3 attempts within 5 minutes block their source for 60 minutes; never 10.0.0.0/8, 203.0.113.5\n');
  expect(json(await run('settings', '--threshold', '0', '--exempt', '', '--json'))).toEqual({ threshold: 0, windowMinutes: 5, blockMinutes: 60, exempt: [] });
});

test.each([
  ['block', 'example.com'],
  ['block', '0.0.0.0/0'],
  ['block', source, '--minutes', '0'],
  ['unblock', 'x'],
  ['list', '--source', 'x'],
  ['list', '--since', 'yesterday'],
  ['settings', '--threshold', '-1'],
  ['settings', '--exempt', 'x'],
  [],
])('attempts %s %s ends with 2', async (...args) => {
  expect(await run(...args)).toMatchObject({ status: 2, stdout: '' });
});

test('a wall without control plane has attempts too, and no audit log to write to', async () => {
  await on.database.query('drop schema partywall_control cascade');
  expect(await run('block', '192.0.2.1')).toMatchObject({ status: 0 });
  expect((await run('blocks')).stdout).toContain('192.0.2.1 until');
});

test('a wall that is older says what to do', async () => {
  await on.database.query('alter table partywall.attempts rename to attempts_of_tomorrow');
  expect(await run('list')).toMatchObject({ status: 1, stdout: '', stderr: expect.stringContaining('run `partywall apply` again') });
});
