import { execFile } from 'node:child_process';
import fs from 'node:fs/promises';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { pathToFileURL } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import tenancy from '../partywall.config.ts';
import { loadSqlite } from '../src/load.ts';
import { type WalledChatbot, walledChatbot } from './walled-chatbot.ts';

const binary = path.resolve(import.meta.dirname, '../../../packages/cli/bin/partywall.js');

describe('a backup of the SQLite platform', () => {
  let chatbot: WalledChatbot;
  let file: string;
  let own: Record<string, string>;
  let controlled: Record<string, string>;
  beforeAll(async () => {
    chatbot = await walledChatbot();
    const { folder, database, control } = chatbot;
    file = path.join(folder, 'admin.db');
    await loadSqlite(file);
    await fs.writeFile(path.join(folder, 'partywall.config.ts'), `export default ${JSON.stringify({ ...tenancy, roles: control.model.roles })};\n`);
    own = {
      PATH: process.env['PATH'] ?? '',
      HOME: folder,
      PARTYWALL_ARCHIVE: path.join(folder, 'archive'),
      PARTYWALL_ESCROW: path.join(folder, 'escrow'),
      PARTYWALL_KEYRING: control.keyring,
      PARTYWALL_OPERATOR: 'kari',
    };
    controlled = {
      ...own,
      PARTYWALL_SERVICE_URL: database.urlAs(control.model.roles.service),
      CHATBOT_UPLOADS: pathToFileURL(path.join(folder, 'uploads')).href,
    };
  });

  const command = (args: readonly string[], env: Record<string, string>): Promise<{ status: unknown; output: string; errors: string }> =>
    new Promise((resolve) => {
      execFile(process.execPath, [binary, ...args], { cwd: chatbot.folder, env, encoding: 'utf8' }, (error, output, errors) => {
        resolve({ status: error ? error.code : 0, output, errors });
      });
    });
  const answer = async (args: readonly string[], env: Record<string, string>): Promise<Record<string, unknown>> => {
    const { status, output, errors } = await command([...args, '--json'], env);
    expect(status, output + errors).toBe(0);
    return JSON.parse(output) as Record<string, unknown>; // looked at by each test
  };
  const rowsOf = async (of: '=' | '<>'): Promise<unknown> => {
    const own = Object.keys(tenancy.tables).map(
      (table) =>
        `select '${table}' as name, to_jsonb(t) as row from ${table} t where ${table.endsWith('audit_messages') ? 'partywall_tenant_id' : 'tenant_id'} ${of} 'demo-tenant'`,
    );
    return (await chatbot.database.query(`${own.join(' union all ')} order by 1, 2`)).rows;
  };

  it('is planned, made, shown and verified without a database, and gives PostgreSQL the tenant back', async () => {
    const plan = await answer(['backup', 'run', '--sqlite', 'admin.db', '--dry-run'], own);
    expect(plan).toMatchObject({ dryRun: true, tenants: 12, stored: null });
    expect(await answer(['backup', 'list'], own)).toMatchObject({ total: 0 });
    const made = await answer(['backup', 'run', '--sqlite', 'admin.db', '--reason', 'before the move'], own);
    expect(made).toMatchObject({ tenants: 12, rows: plan['rows'], left: [] });
    const id = String(made['id']);
    expect(await answer(['backup', 'list'], own)).toMatchObject({ items: [{ id, reason: 'before the move', subjects: 12, rows: plan['rows'] }] });
    expect(await command(['backup', 'show', 'latest'], own)).toMatchObject({ status: 0, output: expect.stringContaining('a SQLite file, read by SQLite') });
    expect(await answer(['backup', 'verify', id, '--read-data'], own)).toMatchObject({ whole: true, subjects: 12, rows: plan['rows'] });
    // What it holds goes into a file without any database.
    await answer(['backup', 'export', 'demo-tenant', '--from', id, '-o', 'from-backup.tar.gz'], own);
    expect(await answer(['backup', 'check-file', 'from-backup.tar.gz'], own)).toMatchObject({ tenant: 'demo-tenant', source: `backup ${id}` });

    const [rows, others] = [await rowsOf('='), await rowsOf('<>')];
    await chatbot.database.query(
      "delete from leads where tenant_id = 'demo-tenant'; update audit_messages set content = 'spoiled' where partywall_tenant_id = 'demo-tenant'",
    );
    const restored = await answer(['restore', 'demo-tenant', '--from', id, '--yes', '--prove', 'hash'], controlled);
    expect(restored).toMatchObject({ backup: id, report: { applied: true } });
    expect(await rowsOf('=')).toEqual(rows);
    expect(await rowsOf('<>')).toEqual(others);
  });

  it('stores what changed alone, is in the audit log, and counts as no recovery point of the database', async () => {
    const first = await answer(['backup', 'run', '--sqlite', 'admin.db'], controlled);
    await answer(['backup', 'schedule', '--run'], controlled);
    const writer = new DatabaseSync(file);
    writer.exec("update leads set score = 99 where tenant_id = 'oak-legal'");
    writer.close();
    const second = await answer(['backup', 'run', '--sqlite', 'admin.db'], controlled);
    expect(second).toMatchObject({ base: first['id'], tenants: 12, unchanged: 11, stored: { objects: 3 } });
    const { rows: records } = await chatbot.database.query(
      "select actor_id, tenant_id, details ->> 'engine' as engine, target from partywall_control.audit_records where action = 'backup.run' and target = $1",
      [`backup:${second['id']}`],
    );
    expect(records).toEqual([{ actor_id: 'kari', tenant_id: '', engine: 'sqlite', target: `backup:${second['id']}` }]);

    // Verifies the file's backup, which is newer than that of the database.
    await answer(['backup', 'schedule', '--run'], controlled);
    const { rows: runs } = await chatbot.database.query('select state from partywall_control.backup_runs where backup = $1', [second['id']]);
    expect(runs).toEqual([{ state: 'verified' }]);
    const { rows: points } = await chatbot.database.query<{ backup: string; tenants: number }>(
      'select backup, count(distinct tenant_id)::int as tenants from partywall_control.recovery_points where tenant_id is not null group by 1',
    );
    expect(points).toEqual([{ backup: expect.any(String), tenants: 12 }]);
    expect([first['id'], second['id']]).not.toContain(points[0]?.backup);
    expect(await answer(['restore', 'demo-tenant', '--from', 'latest', '--dry-run'], controlled)).toMatchObject({ source: `backup ${points[0]?.backup}` });
  });

  it('takes no choices that a database has, and says so before anything is read', async () => {
    for (const args of [
      ['--tenant', 'demo-tenant'],
      ['--class', 'audit'],
      ['--url', 'postgresql://x'],
    ])
      expect(await command(['backup', 'run', '--sqlite', 'admin.db', ...args], own), args.join(' ')).toMatchObject({
        status: 2,
        errors: expect.stringContaining('--sqlite takes'),
      });
    expect(await command(['backup', 'run', '--sqlite', 'none.db'], own)).toMatchObject({ status: 2, errors: expect.stringContaining('there is no such file') });
  });
});
