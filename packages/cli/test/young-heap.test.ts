import { expect, test } from 'vitest';
import { partywall } from './support/command.ts';

/** The options that Node runs the verb with: every process says its own, and the last one does the work. */
async function optionsOf(verb: string, options = ''): Promise<string[]> {
  const say = "data:text/javascript,console.error('options:'+process.execArgv.join('|'))";
  const { status, stderr } = await partywall([verb, '--help'], { env: { NODE_OPTIONS: `--import=${JSON.stringify(say)} ${options}` } });
  expect(status).toBe(0);
  return /^options:(.*)$/.exec(stderr.trim().split('\n').at(-1) ?? '')?.[1]?.split('|') ?? [];
}

test.each(['backup', 'restore', 'clone', 'move', 'recover', 'serve'])(
  '%s, which works through many tenants, runs with little memory for young objects',
  async (verb) => {
    expect(await optionsOf(verb)).toContain('--max-semi-space-size=8');
  },
);

test('a short verb is not started once more for it', async () => {
  expect((await optionsOf('check')).join()).not.toContain('--max-semi-space-size');
});

test('who chose a size keeps it', async () => {
  expect((await optionsOf('backup', '--max-semi-space-size=32')).join()).not.toContain('--max-semi-space-size');
});
