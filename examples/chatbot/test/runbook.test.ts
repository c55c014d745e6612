import { execFile } from 'node:child_process';
import fs from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { applyWall, connect, installControl } from '@partywall/engine';
import { beforeAll, describe, expect, it } from 'vitest';
import { createDatabase, type TestDatabase } from '../../../test/support/database.ts';
import tenancy from '../partywall.config.ts';
import { loadSqlite } from '../src/load.ts';
import { type WalledChatbot, walledChatbot } from './walled-chatbot.ts';

const tenant = 'lumen-retail';
const runbook = await fs.readFile(new URL('../RUNBOOK.md', import.meta.url), 'utf8');

interface Block {
  /** The nearest heading above it. */
  readonly heading: string;
  readonly text: string;
}

function blocks(): Block[] {
  const found: Block[] = [];
  let heading = '';
  for (const { groups = {} } of runbook.matchAll(/^(#+ (?<heading>.+))$|^```bash\n(?<text>[\s\S]*?)^```$/gm)) {
    if (groups['heading'] !== undefined) heading = groups['heading'];
    else found.push({ heading, text: groups['text'] ?? '' });
  }
  return found;
}

describe('the runbook', () => {
  let chatbot: WalledChatbot;
  let env: Record<string, string>;
  let empty: TestDatabase;
  let dedicated: TestDatabase;
  const ran = new Set<string>();
  beforeAll(async () => {
    chatbot = await walledChatbot();
    const { folder, database, control } = chatbot;
    empty = await createDatabase();
    dedicated = await createDatabase();
    const client = await connect(dedicated.url, { purpose: 'test' });
    await client.query(`set search_path = public; ${await fs.readFile(new URL('../schema.sql', import.meta.url), 'utf8')}`);
    await client.query("set search_path = ''");
    for (const phase of ['expand', 'contract'] as const) await applyWall({ url: dedicated.url, model: control.model, phase, skipGate: true });
    await installControl(client, control.model).finally(() => client.end());
    await fs.writeFile(path.join(folder, 'partywall.config.ts'), `export default ${JSON.stringify({ ...tenancy, roles: control.model.roles })};\n`);
    await fs.mkdir(path.join(folder, 'data'));
    await loadSqlite(path.join(folder, 'data/admin.db'));
    // The commands as they are written, with this checkout's for the installed one.
    const shim = `#!/bin/sh\nshift\nexec ${JSON.stringify(process.execPath)} --conditions=partywall-source ${JSON.stringify(path.resolve(import.meta.dirname, '../../../packages/cli/bin/partywall.js'))} "$@"\n`;
    await fs.mkdir(path.join(folder, 'bin'));
    await fs.writeFile(path.join(folder, 'bin/npx'), shim, { mode: 0o755 });
    env = {
      PATH: `${folder}/bin:${process.env['PATH']}`,
      HOME: folder,
      NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'] ?? path.join(folder, 'compiled'),
      PARTYWALL_SERVICE_URL: database.urlAs(control.model.roles.service),
      PARTYWALL_ARCHIVE: path.join(folder, 'archive'),
      PARTYWALL_ESCROW: path.join(folder, 'escrow'),
      PARTYWALL_KEYRING: control.keyring,
      PARTYWALL_OPERATOR: 'kari',
      CHATBOT_UPLOADS: pathToFileURL(path.join(folder, 'uploads')).href,
      PARTYWALL_PLACEMENT_DEDICATED: dedicated.urlAs(control.model.roles.service),
    };
  });

  const filled = (text: string): string =>
    text
      .replaceAll('<tenant_id>', tenant)
      .replaceAll('<leaving_tenant>', 'juniper-yoga')
      .replaceAll('<leaving_tenant_name>', 'Juniper Yoga')
      .replaceAll('<archive_folder>', path.join(chatbot.folder, 'archive'))
      .replaceAll('<off_site_folder>', path.join(chatbot.folder, 'elsewhere'))
      .replaceAll('<moving_tenant>', 'kestrel-air')
      .replaceAll('<empty_database_url>', empty.url)
      .replaceAll('<database_url>', chatbot.database.url);

  const shell = (text: string): Promise<{ status: unknown; output: string }> =>
    new Promise((resolve) => {
      execFile('/bin/bash', ['--norc', '-euo', 'pipefail', '-c', filled(text)], { cwd: chatbot.folder, env, encoding: 'utf8' }, (error, stdout, stderr) => {
        resolve({ status: error ? (error.code ?? -1) : 0, output: stdout + stderr });
      });
    });

  /** Runs the blocks below a heading in their order; each must succeed. */
  const run = async (heading: string): Promise<string> => {
    const own = blocks().filter((block) => block.heading === heading);
    expect(own.length, heading).toBeGreaterThan(0);
    ran.add(heading);
    let output = '';
    for (const { text } of own) {
      const done = await shell(text);
      expect(done.status, `${text}\n${done.output}`).toBe(0);
      output += done.output;
    }
    return output;
  };

  const query = async (text: string): Promise<Record<string, unknown>[]> => (await chatbot.database.query(text)).rows;
  /** All rows of all tables but those of one tenant, or of it alone. */
  const rowsOf = async (which: '=' | '<>', of = tenant): Promise<unknown> => {
    const own = Object.keys(tenancy.tables).map(
      (table) =>
        `select '${table}' as name, to_jsonb(t) as row from ${table} t where ${table.endsWith('audit_messages') ? 'partywall_tenant_id' : 'tenant_id'} ${which} '${of}'`,
    );
    return query(`${own.join(' union all ')} order by 1, 2`);
  };
  const corrupt = (): Promise<unknown> =>
    chatbot.database.query(
      `delete from channel_sessions where tenant_id = '${tenant}'; delete from audit_conversations where tenant_id = '${tenant}'; update agents set name = 'x' || id where tenant_id = '${tenant}'`,
    );
  const statusOf = async (of: string): Promise<unknown> =>
    (await query(`select status from partywall_control.directory where tenant_id = '${of}'`))[0]?.['status'];

  it('backs up what is due: every tenant, because an enterprise one asks for it every hour', async () => {
    expect(await run('What is due')).toMatch(/is verified: a recovery point of 12 tenants/);
  });

  it('backs up by hand, lists, shows and reads everything back', async () => {
    expect(await run('By hand')).toMatch(/before the migration/);
  });

  it('finds every tenant within its promise', async () => {
    expect(await run('Every tenant against its promise')).toMatch(/northwind-bank/);
    await run('What is kept, and why');
    await run('Keys');
  });

  it('backs up the SQLite platform beside it, which counts for no promise', async () => {
    const [, id] = /backup (\S+): 12 tenants of [\s\S]*a SQLite file/.exec(await run('A file of the SQLite platform')) ?? [];
    await shell('npx partywall backup schedule --run');
    const points = await query('select distinct backup from partywall_control.recovery_points');
    expect(points.length).toBeGreaterThan(0);
    expect(points).not.toContainEqual({ backup: id });
    expect(id).toEqual(expect.any(String));
  });

  it('reads every tenant back from a copy elsewhere', async () => {
    await fs.mkdir(path.join(chatbot.folder, 'elsewhere'));
    await shell('npx partywall backup run --reason "before the copy"');
    expect(await run('Off-site')).toMatch(/is whole \(every byte read\)\n {2}13 subjects/);
  });

  it('drills: a scratch database has the rows of the backup, and answers the questions of the model', async () => {
    await run('Drills');
    const report = await fs.readFile(path.join(chatbot.folder, 'drill.md'), 'utf8');
    expect(report).toMatch(/passed/);
    expect(report).toContain(tenant);
  });

  it('restores one tenant, all of its tables, and no row of another', async () => {
    const [own, others] = [await rowsOf('='), await rowsOf('<>')];
    await corrupt();
    const plan = await run('Look first');
    expect(plan).toMatch(/public\.audit_messages: 2 inserted/);
    await run('Restore');
    expect(await rowsOf('=')).toEqual(own);
    expect(await rowsOf('<>')).toEqual(others);
  });

  it('restores a tenant with its uploaded files, and touches no file of another', async () => {
    const [own, others] = [`uploads/${tenant}/price-list.txt`, 'uploads/oak-legal/price-list.txt'].map((name) => path.join(chatbot.folder, name));
    const content = await fs.readFile(own ?? '', 'utf8');
    await fs.rm(own ?? '');
    await fs.writeFile(others ?? '', 'changed since');
    expect(await run('With its uploaded files')).toMatch(/files uploads: 1 added, 0 replaced, 0 deleted/);
    expect(await fs.readFile(own ?? '', 'utf8')).toBe(content);
    expect(await fs.readFile(others ?? '', 'utf8')).toBe('changed since');
  });

  it('recovers a corrupted tenant: isolated, scoped, restored, let in again', async () => {
    const own = await rowsOf('=');
    await corrupt();
    await run('Isolate');
    expect(await statusOf(tenant)).toBe('suspended');
    await run('Scope');
    await run('Bring it back');
    expect(await statusOf(tenant)).toBe('suspended');
    await run('Let it in again');
    expect(await statusOf(tenant)).toBe('active');
    expect(await rowsOf('=')).toEqual(own);
    expect(await fs.readdir(path.join(chatbot.folder, 'incident'))).toEqual([expect.stringMatching(/^tenant_lumen-retail_/)]);
  });

  it('clones a tenant, whose rows have ids of their own, and leaves the source as it is', async () => {
    const own = await rowsOf('=');
    await run('Clone a tenant');
    const counts = await query(
      "select t.name, (select count(*)::int from channel_messages m where m.tenant_id = t.id) as messages from tenants t where t.name in ('Lumen Retail', 'Cloned Tenant')",
    );
    expect(new Set(counts.map(({ messages }) => messages)).size).toBe(1);
    expect(counts).toHaveLength(2);
    expect(await rowsOf('=')).toEqual(own);
  });

  it('brings everything back into an empty database, by tier', async () => {
    const before = await query("select count(*)::int as n from channel_messages where tenant_id <> (select id from tenants where name = 'Cloned Tenant')");
    await run('Recovery 2: everything is lost');
    expect((await empty.query('select count(*)::int as n from public.channel_messages')).rows).toEqual(before);
  });

  it('moves a tenant into a database of its own', async () => {
    await run('Recovery 3: a tenant gets a database of its own');
    const [there, here] = [
      await dedicated.query('select count(*)::int as n from public.leads'),
      await query("select count(*)::int as n from leads where tenant_id = 'kestrel-air'"),
    ];
    expect(there.rows).toEqual(here);
  });

  it('writes the demo tenant into one file, from PostgreSQL and from SQLite, with true numbers of rows', async () => {
    await run('From PostgreSQL');
    await run('From SQLite');
    const output = await run('Inspect it');
    const [{ count } = {}] = await query("select count(*) from channel_messages where tenant_id = 'demo-tenant'");
    expect(output).toContain('Tenant ID: demo-tenant');
    expect(output).toContain(`  - public.channel_messages: ${count} rows`);
    expect(output).toContain('  - public.audit_messages: 2 rows');
  });

  it('restores the demo tenant from SQLite into PostgreSQL', async () => {
    await chatbot.database.query("delete from leads where tenant_id = 'demo-tenant'");
    expect(await run('From SQLite into PostgreSQL')).toMatch(/rows inserted/);
    expect((await query("select count(*)::int as n from leads where tenant_id = 'demo-tenant'"))[0]?.['n']).toBe(6);
  });

  it('gives a customer its data', async () => {
    expect(await run('A customer asks for its data')).toMatch(/is whole/);
  });

  it('lets a customer go, who can come back for 30 days', async () => {
    await run('A customer leaves');
    expect(await statusOf('juniper-yoga')).toBe('active');
  });

  it('forgets a customer in every backup, and nobody else', async () => {
    const others = await rowsOf('<>', 'juniper-yoga');
    expect((await shell('npx partywall restore juniper-yoga --from latest --dry-run')).status).toBe(0);
    await run('A customer asks to be forgotten');
    expect(await query("select id from tenants where id = 'juniper-yoga'")).toEqual([]);
    expect(await query("select id from leads where tenant_id = 'juniper-yoga'")).toEqual([]);
    const uploads = (of: string): Promise<string[]> => fs.readdir(path.join(chatbot.folder, 'uploads', of)).catch(() => []);
    expect([await uploads('juniper-yoga'), await uploads('oak-legal')]).toEqual([[], ['price-list.txt']]);
    for (const id of (await fs.readdir(path.join(chatbot.folder, 'archive/backups'))).sort().slice(0, 3)) {
      const refused = await shell(`npx partywall restore juniper-yoga --from ${id} --dry-run`);
      expect(refused.status).not.toBe(0);
      expect(refused.output).toMatch(/keyring has none|erased/);
    }
    expect(await shell(`npx partywall restore ${tenant} --from latest --dry-run`)).toMatchObject({ status: 0 });
    expect(await rowsOf('<>', 'juniper-yoga')).toEqual(others);
  });

  it('has a test for each line of the document’s checklist', async () => {
    const own = await fs.readFile(new URL(import.meta.url), 'utf8');
    const [, section = ''] = /## The checklist\n([\s\S]*)$/.exec(runbook) ?? [];
    const lines = [...section.matchAll(/^\| (?!---|the document)[^|]+ \| (.+) \|$/gm)].map(([, proof = '']) => proof);
    expect(lines).toHaveLength(9);
    for (const proof of lines) expect(proof === 'the same' || own.includes(`it('${proof.slice(1, -1)}'`), proof).toBe(true);
  });

  it('has no block that no test ran', () => {
    expect([...new Set(blocks().map(({ heading }) => heading))].filter((heading) => !ran.has(heading))).toEqual([]);
  });
});
