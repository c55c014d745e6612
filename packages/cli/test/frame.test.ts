import { once } from 'node:events';
import { describe, expect, test } from 'vitest';
import { folder, json, outcome, partywall, printed, startCommand } from './support/command.ts';
import { portal } from './support/portal.ts';

const verbs = ['init', 'check', 'diff', 'apply', 'rollback', 'verify', 'doctor', 'up'];

describe('help', () => {
  test('the command lists every verb and its exit statuses', async () => {
    const { status, stdout, stderr } = await partywall(['--help']);
    expect(status).toBe(0);
    expect(stderr).toBe('');
    for (const verb of verbs) expect(stdout).toMatch(new RegExp(`^ {2}${verb}\\b`, 'm'));
    expect(stdout).toMatch(/\nExit status:\n {2}0 .+\n {2}1 .+\n {2}2 .+\n {2}3 .+\n {2}130 .+\n/);
  });

  test.each(verbs)('%s says what it does, how it exits and how it is called', async (verb) => {
    const { status, stdout } = await partywall([verb, '--help']);
    expect(status).toBe(0);
    expect(stdout).toMatch(new RegExp(`^Usage: partywall ${verb} `));
    for (const option of ['--config <file>', '--url <url>', '--json', '--debug']) expect(stdout).toContain(option);
    expect(stdout).toMatch(/\nExit status:\n {2}0 +\S.*\n {2}1 +\S.*\n {2}2 +\S/);
    expect(stdout).toMatch(new RegExp(`\\nExamples:\\n {2}\\$ .*partywall ${verb}`));
  });
});

describe('a command line that makes no sense', () => {
  test.each([
    [['check', '--frob'], "unknown option '--frob'"],
    [['frob'], "unknown command 'frob'"],
    [['check', 'extra'], 'too many arguments'],
    [['apply'], "required option '--phase <phase>' not specified"],
    [['apply', '--phase', 'sideways'], 'Allowed choices are expand, switch, contract'],
    [[], 'no command given'],
  ])('%j ends with status 2 and one line', async (args, message) => {
    const { status, stdout, stderr } = await partywall(args);
    expect(status).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).toMatch(/^partywall: .+\n {2}hint: .+\n$/);
    expect(stderr).toContain(message);
  });

  test('with --json the error is one JSON value on standard output', async () => {
    const result = await partywall(['check', '--frob', '--json']);
    expect(result.status).toBe(2);
    expect(result.stderr).toBe('');
    expect(json(result)).toEqual({ error: { code: 'usage', message: "unknown option '--frob'", hint: 'see --help', details: [] } });
  });

  test('a connection string that is none is refused without being repeated', async () => {
    const { cwd } = await portal();
    const { status, stderr } = await partywall(['diff', '--url', 'postgres//me:hunter2@db/crm'], { cwd });
    expect(status).toBe(2);
    expect(stderr).toContain('reading --url: not a connection string');
    expect(stderr).not.toContain('hunter2');
  });
});

describe('output', () => {
  test('is plain where there is no terminal', async () => {
    const { stdout, stderr } = await partywall(['doctor']);
    expect(stdout + stderr).not.toContain('\x1b');
  });

  test('is coloured where colour is asked for, and not where NO_COLOR is set', async () => {
    const coloured = await partywall(['doctor'], { env: { FORCE_COLOR: '1' } });
    expect(coloured.stdout).toContain('\x1b[');
    const plain = await partywall(['doctor'], { env: { NO_COLOR: '1' } });
    expect(plain.stdout).not.toContain('\x1b');
  });

  test('a reader that closes early is no error, and the exit status stays that of the answer', async () => {
    const { cwd, env } = await portal();
    for (const [args, expected] of [
      [['--help'], 0],
      [['diff'], 1],
    ] as const) {
      const child = startCommand(args, { cwd, env });
      child.stdout.destroy();
      let stderr = '';
      child.stderr.on('data', (text) => {
        stderr += text;
      });
      const [status] = await once(child, 'close');
      expect(status).toBe(expected);
      expect(stderr).not.toContain('EPIPE');
    }
  });

  test('the stack of an error is printed only with --debug', async () => {
    const cwd = await folder();
    const brief = await partywall(['check'], { cwd });
    expect(brief.stderr).not.toContain('    at ');
    const long = await partywall(['check', '--debug'], { cwd });
    expect(long.stderr).toContain('    at loadConfig');
    expect(long.status).toBe(brief.status);
  });

  test('a password in the connection string is never printed', async () => {
    const { cwd } = await portal();
    for (const args of [['diff'], ['diff', '--json', '--debug'], ['doctor'], ['apply', '--phase', 'expand', '--debug']]) {
      const { stdout, stderr } = await partywall(args, { cwd, env: { DATABASE_URL: 'postgresql://me:hunter2@127.0.0.1:1/crm' } });
      expect(stdout + stderr).toContain('me@127.0.0.1:1/crm');
      expect(stdout + stderr).not.toContain('hunter2');
    }
  });
});

describe('the runtime', () => {
  test('a Node.js that is too old is named in one line', async () => {
    const old = 'data:text/javascript,Object.defineProperty(process.versions, "node", { value: "20.9.0" })';
    const { status, stdout, stderr } = await partywall(['check'], { node: ['--import', old] });
    expect(status).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).toMatch(/^partywall: Node\.js 22\.18 or newer is needed, this is .+\n$/);
  });

  test('Ctrl-C ends a command with status 130 and leaves what was done', async () => {
    const { cwd, env, database } = await portal();
    // Somebody writes the table in a long transaction, so apply asks for its lock again and again.
    await database.query('begin; lock table notes in row exclusive mode');
    const child = startCommand(['apply', '--phase', 'expand'], { cwd, env });
    const result = outcome(child);
    await printed(child.stderr, 'public.notes: add tenant_id');
    child.kill('SIGINT');
    const { status, stderr } = await result;
    await database.query('rollback');
    expect(status).toBe(130);
    expect(stderr).toMatch(/partywall: interrupted\n$/);
    expect((await partywall(['apply', '--phase', 'expand'], { cwd, env })).status).toBe(0);
  });
});
