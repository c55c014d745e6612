import { execFile } from 'node:child_process';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { Command } from 'commander';
import pg from 'pg';
import { afterAll, expect, inject, test } from 'vitest';
import { loadCrm } from '../examples/crm/src/seed.ts';
import { verbs } from '../packages/cli/src/verbs.ts';
import { ident } from '../packages/engine/src/db/sql.ts';
import { suffix } from './support/database.ts';
import { read, repositoryFiles, root } from './support/repository.ts';

interface Step {
  readonly command: string;
  /** What the comment beside the command announces, else 0. */
  readonly status: number;
}

/** The commands of the README's tour: the `sh` blocks marked `<!-- tour -->`, a line each. */
function tour(): Step[] {
  const blocks = [...read('README.md').matchAll(/<!-- tour -->\n```sh\n([\s\S]*?)```/g)];
  return blocks
    .flatMap((block) => (block[1] ?? '').trim().split('\n'))
    .map((line) => ({ command: line.replace(/\s*#.*$/, ''), status: Number(/# exit status (\d+)/.exec(line)?.[1] ?? 0) }));
}

/** `npx partywall` of this checkout, wherever it is called. */
async function folderWithNpx(): Promise<string> {
  const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-docs-'));
  afterAll(() => fs.rm(folder, { recursive: true, force: true }));
  const shim = `#!/bin/sh\nshift\nexec ${JSON.stringify(process.execPath)} ${JSON.stringify(path.join(root, 'packages/cli/bin/partywall.js'))} "$@"\n`;
  await fs.mkdir(path.join(folder, 'bin'));
  await fs.writeFile(path.join(folder, 'bin/npx'), shim, { mode: 0o755 });
  return folder;
}

/** A CRM nobody hardened. No session is left in it: the switch gate looks at sessions. */
async function crmDatabase(): Promise<{ url: string; name: string }> {
  const name = `docs_${suffix()}`;
  const clusterUrl = inject('clusterUrl');
  const onCluster = async (statement: string): Promise<void> => {
    const client = new pg.Client(clusterUrl);
    await client.connect();
    await client.query(statement);
    await client.end();
  };
  await onCluster(`create database ${ident(name)}`);
  afterAll(() => onCluster(`drop database if exists ${ident(name)} with (force)`));
  const url = new URL(clusterUrl);
  url.pathname = `/${name}`;
  return { url: url.toString(), name };
}

function shell(command: string, options: { cwd: string; env: NodeJS.ProcessEnv }): Promise<{ status: number; output: string }> {
  return new Promise((resolve) => {
    execFile('/bin/sh', ['-c', command], { ...options, encoding: 'utf8' }, (error, stdout, stderr) => {
      resolve({ status: typeof error?.code === 'number' ? error.code : error ? -1 : 0, output: stdout + stderr });
    });
  });
}

test("the README's tour takes a database that nobody hardened to a verified wall", async () => {
  const { url, name } = await crmDatabase();
  const loader = new pg.Client(url);
  await loader.connect();
  await loadCrm(loader);
  await loader.end();
  const cwd = await folderWithNpx();
  const appUrl = new URL(url);
  appUrl.username = `${name}_app`;
  appUrl.password = '';
  const env = { PATH: `${cwd}/bin:${process.env['PATH']}`, HOME: cwd, DATABASE_URL: url, PARTYWALL_APP_URL: appUrl.toString() };

  const steps = tour();
  expect(steps.map((step) => step.command.split(' ')[2])).toEqual(['init', 'check', 'diff', 'apply', 'apply', 'apply', 'verify']);
  const application = new pg.Client({ connectionString: appUrl.toString(), application_name: 'the CRM' });
  for (const { command, status } of steps) {
    // What the README asks for between the blocks: the application runs on its role.
    if (command.endsWith('--phase switch')) await application.connect();
    const result = await shell(command, { cwd, env });
    expect(result, command).toMatchObject({ status });
  }
  await application.end();
  const root = new pg.Client(url);
  await root.connect();
  const { rows } = await root.query("select count(*)::int as forced from pg_class where relforcerowsecurity and relnamespace = 'public'::regnamespace");
  await root.end();
  expect(rows).toEqual([{ forced: 13 }]);
}, 120_000);

test('every option and verb that the documents show exists', () => {
  const program = new Command('partywall').option('--config <file>').option('--url <url>').option('--json').option('--debug').option('--version');
  for (const register of verbs) register(program, () => async () => undefined);
  const documents = [
    'README.md',
    'examples/crm/RUNBOOK.md',
    'examples/chatbot/RUNBOOK.md',
    'examples/rental/RUNBOOK.md',
    ...repositoryFiles().filter((file) => file.startsWith('docs/guide/')),
  ];
  const pattern = new RegExp(`\\bpartywall ((?:${program.commands.map((verb) => verb.name()).join('|')})\\b[^\\n\`|>#]*)`, 'g');
  const shown = documents.flatMap((file) => [...read(file).replaceAll('\\\n', ' ').matchAll(pattern)].map((match) => (match[1] ?? '').trim()));
  expect(shown.length).toBeGreaterThan(80);
  for (const text of new Set(shown)) {
    const words = text.split(/\s+/);
    let command = program;
    // A word below a verb that has verbs of its own is one of them; prose after the verb is in other type.
    while (command.commands.length > 0 && /^[a-z][a-z-]*$/.test(words[0] ?? '')) {
      const next = command.commands.find((verb) => verb.name() === words[0]);
      expect(next, text).toBeDefined();
      if (!next) break;
      command = next;
      words.shift();
    }
    const known = [...command.options, ...program.options].flatMap(({ long }) => long ?? []);
    for (const word of words.filter((candidate) => candidate.startsWith('--'))) expect(known, text).toContain(word.replace(/[=,.;)].*$/, ''));
  }
});
