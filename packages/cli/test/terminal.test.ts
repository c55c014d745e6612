import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { binary, partywall, printed } from './support/command.ts';
import { type Portal, portal } from './support/portal.ts';

/** Gives a command a terminal; part of every Linux. */
const script = '/usr/bin/script';
const withoutTerminal = !existsSync(script) && process.env['PARTYWALL_NO_SKIPS'] === undefined;

/** Runs the command on a terminal, types `answer` when it asks, and returns what the terminal showed. */
async function onTerminal(on: Portal, args: readonly string[], answer?: string): Promise<{ status: number | null; shown: string }> {
  const words = [process.execPath, binary, ...args].map((word) => `'${word}'`).join(' ');
  const child = spawn(script, ['-qec', words, '/dev/null'], { cwd: on.cwd, env: { PATH: process.env['PATH'], TERM: 'xterm', ...on.env } });
  let shown = '';
  child.stdout.on('data', (chunk) => {
    shown += chunk;
  });
  if (answer !== undefined) void printed(child.stdout, '[y/N]').then(() => child.stdin.write(answer));
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, shown };
}

async function expanded(): Promise<Portal> {
  const on = await portal();
  await partywall(['apply', '--phase', 'expand'], on);
  return on;
}

async function isForced(on: Portal): Promise<boolean> {
  const { rows } = await on.database.query<{ forced: boolean }>("select relforcerowsecurity as forced from pg_class where oid = 'public.notes'::regclass");
  return rows[0]?.forced ?? false;
}

describe.skipIf(withoutTerminal)('on a terminal', () => {
  test('contract shows its plan and asks; no means that nothing is changed', async () => {
    const on = await expanded();
    const { status, shown } = await onTerminal(on, ['apply', '--phase', 'contract', '--skip-gate'], 'n\n');
    expect(shown).toContain('-- contract: ');
    expect(shown).toContain('not confirmed, nothing was changed');
    expect(status).toBe(2);
    expect(await isForced(on)).toBe(false);
  });

  test('contract goes on after a yes, and rollback asks too', async () => {
    const on = await expanded();
    expect(await onTerminal(on, ['apply', '--phase', 'contract', '--skip-gate'], 'yes\n')).toMatchObject({ status: 0 });
    expect(await isForced(on)).toBe(true);
    expect(await onTerminal(on, ['rollback'], 'y\n')).toMatchObject({ status: 0 });
    expect(await isForced(on)).toBe(false);
  });

  test('Ctrl-C at the question is an interruption', async () => {
    const on = await expanded();
    const { status, shown } = await onTerminal(on, ['apply', '--phase', 'contract', '--skip-gate'], '\x03');
    expect(shown).toContain('partywall: interrupted');
    expect(status).toBe(130);
    expect(await isForced(on)).toBe(false);
  });

  test('progress is one line that is written over, and colour is used', async () => {
    const on = await portal();
    const { shown } = await onTerminal(on, ['apply', '--phase', 'expand']);
    expect(shown).toContain('\r\x1b[2K  filling public.notes  ');
    expect((await onTerminal(on, ['doctor'])).shown).toContain('\x1b[32mpass\x1b[39m');
  });
});
