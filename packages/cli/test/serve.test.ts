import { once } from 'node:events';
import { ident, systemDatabaseName } from '@partywall/engine';
import { afterAll, expect, test } from 'vitest';
import { outcome, partywall, printed, startCommand } from './support/command.ts';
import { portal } from './support/portal.ts';

const secret = 'a secret of the tests, thirty-two bytes and more';

async function controlled() {
  const on = await portal();
  await partywall(['apply', '--phase', 'expand'], on);
  await partywall(['migrate'], on);
  afterAll(() => on.database.query(`drop database ${ident(systemDatabaseName(on.database.name))} with (force)`));
  return { cwd: on.cwd, env: { PARTYWALL_SERVICE_URL: on.database.urlAs(on.roles.service), PARTYWALL_SECRET: secret } };
}

test('it serves until SIGTERM, logs on standard error, and ends with 0', async () => {
  const on = await controlled();
  const metricsToken = 'a token for the collector';
  const child = startCommand(['serve', '--port', '0'], { ...on, env: { ...on.env, PARTYWALL_METRICS_TOKEN: metricsToken } });
  let [out, log] = ['', ''];
  child.stdout.on('data', (text) => {
    out += text;
  });
  child.stderr.on('data', (text) => {
    log += text;
  });
  await printed(child.stdout, 'serving on http://127.0.0.1:');
  const [url = ''] = /http:\S+/.exec(out) ?? [];
  expect((await fetch(`${url}/api/health`)).status).toBe(200);
  expect((await fetch(`${url}/metrics`)).status).toBe(401);
  expect((await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${metricsToken}` } })).status).toBe(200);
  child.kill('SIGTERM');
  expect(await once(child, 'close')).toEqual([0, null]);
  expect(log).not.toContain(metricsToken);
  expect(log).toContain('"route":"/api/health"');
  expect(log).not.toContain(secret);
});

test('without a connection string, and with things that are not as needed, it ends with 2 and says so', async () => {
  const on = await portal();
  expect(await partywall(['serve'], { cwd: on.cwd })).toMatchObject({ status: 2, stderr: expect.stringContaining('PARTYWALL_SERVICE_URL') });
  const { status, stderr } = await outcome(
    startCommand(['serve', '--url', on.database.url, '--port', '0'], { cwd: on.cwd, env: { PARTYWALL_SECRET: 'short' } }),
  );
  expect(status).toBe(2);
  expect(stderr).toContain('people.secret: needs at least 32 bytes');
  expect(stderr).toContain('the service role of the config');
});

test('an unusable port is refused before anything is asked', async () => {
  const on = await portal();
  const url = ['--url', on.database.url];
  expect(await partywall(['serve', ...url, '--port', '65536'], on)).toMatchObject({ status: 2 });
  expect(await partywall(['serve', ...url], { ...on, env: { ...on.env, PORT: 'x' } })).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('reading PORT'),
  });
});
