import fs from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { folder, json, partywall } from './support/command.ts';
import { configText, type Portal, portal } from './support/portal.ts';

interface Report {
  readonly sound: boolean;
  readonly findings: readonly { rule: string; target: string; fingerprint: string }[];
  readonly suite: readonly { name: string; outcome: string }[];
}

let on: Portal;
let env: Record<string, string>;

beforeAll(async () => {
  on = await portal();
  await partywall(['apply', '--phase', 'expand'], on);
  await partywall(['apply', '--phase', 'contract', '--yes', '--skip-gate'], on);
  env = { ...on.env, PARTYWALL_APP_URL: on.database.urlAs(on.roles.app) };
});

/** Opens one hole for the duration of the work. */
async function withHole(work: () => Promise<void>): Promise<void> {
  await on.database.query(`grant truncate on notes to ${on.roles.app}`);
  try {
    await work();
  } finally {
    await on.database.query(`revoke truncate on notes from ${on.roles.app}`);
  }
}

test('a sound wall exits 0 and prints the eight named checks', async () => {
  const { status, stdout } = await partywall(['verify'], { cwd: on.cwd, env });
  expect(stdout).toContain('MULTI-TENANT ISOLATION TESTS');
  expect(stdout.match(/✓ PASS: /g)).toHaveLength(8);
  expect(stdout).toMatch(/^sound: /m);
  expect(status).toBe(0);
});

test('--json prints one object that says the same', async () => {
  const result = await partywall(['verify', '--json'], { cwd: on.cwd, env });
  // The fields that the assertions read.
  const report = json(result) as Report;
  expect(report).toMatchObject({ sound: true, findings: [], passed: 8, failed: 0 });
});

test('a hole is a finding and exit status 1, in every format', async () => {
  await withHole(async () => {
    const report = await partywall(['verify', '--json'], { cwd: on.cwd, env });
    expect(report.status).toBe(1);
    expect((json(report) as Report).findings.map(({ target }) => target)).toContain('public.notes');
    const sarif = await partywall(['verify', '--sarif'], { cwd: on.cwd, env });
    expect(sarif.status).toBe(1);
    expect(json(sarif)).toMatchObject({ version: '2.1.0', runs: [{ results: expect.arrayContaining([expect.objectContaining({ kind: 'fail' })]) }] });
    const junit = await partywall(['verify', '--junit'], { cwd: on.cwd, env });
    expect(junit.status).toBe(1);
    expect(junit.stdout).toMatch(/^<\?xml version="1\.0"/);
    expect(junit.stdout).toContain('<failure ');
  });
});

test('a baseline takes what is there as known; what is new fails', async () => {
  const baseline = path.join(await folder(), 'baseline.json');
  await withHole(async () => {
    expect((await partywall(['verify', '--write-baseline', baseline], { cwd: on.cwd, env })).status).toBe(1);
    expect((await partywall(['verify', '--baseline', baseline], { cwd: on.cwd, env })).status).toBe(0);
    await on.database.query(`grant references on notes to ${on.roles.app}`);
    const more = await partywall(['verify', '--baseline', baseline], { cwd: on.cwd, env });
    await on.database.query(`revoke references on notes from ${on.roles.app}`);
    expect(more.status).toBe(1);
  });
});

test('a waiver with a reason holds until its end date, and not after', async () => {
  await withHole(async () => {
    const { findings } = json(await partywall(['verify', '--json'], { cwd: on.cwd, env })) as Report;
    const waivers = (until: string): unknown => findings.map(({ rule, target }) => ({ rule, target, reason: 'nightly reset of the demo', until }));
    const holding = await folder({ 'partywall.config.ts': configText(on.roles, {}, { waivers: waivers('2999-12-31') }) });
    const held = await partywall(['verify'], { cwd: holding, env });
    expect(held).toMatchObject({ status: 0, stdout: expect.stringContaining('nightly reset of the demo') });
    const ended = await folder({ 'partywall.config.ts': configText(on.roles, {}, { waivers: waivers('2020-01-31') }) });
    const failed = await partywall(['verify'], { cwd: ended, env });
    expect(failed).toMatchObject({ status: 1, stdout: expect.stringContaining('ended on 2020-01-31') });
  });
});

describe('what could not be asked is a failure', () => {
  test("without the application's connection string nothing is attacked, which exits 2", async () => {
    const { status, stdout } = await partywall(['verify'], { cwd: on.cwd, env: on.env });
    expect(status).toBe(2);
    expect(stdout).toContain('could not run');
    expect(stdout).toMatch(/^could not tell: /m);
  });

  test('an application that cannot connect exits 2', async () => {
    const url = on.database.urlAs(`${on.roles.app}_gone`);
    expect((await partywall(['verify'], { cwd: on.cwd, env: { ...on.env, PARTYWALL_APP_URL: url } })).status).toBe(2);
  });

  test('--static asks the catalog alone and needs no application', async () => {
    expect((await partywall(['verify', '--static'], { cwd: on.cwd, env: on.env })).status).toBe(0);
  });

  test('a rule that does not exist, two formats at once and a baseline that is none are refused', async () => {
    const surroundings = { cwd: on.cwd, env };
    expect(await partywall(['verify', '--only', 'no.such-rule'], surroundings)).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('there is no rule "no.such-rule"'),
    });
    expect(await partywall(['verify', '--sarif', '--junit'], surroundings)).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('cannot be used with'),
    });
    const cwd = await folder({ 'broken.json': '{' });
    await fs.copyFile(path.join(on.cwd, 'partywall.config.ts'), path.join(cwd, 'partywall.config.ts'));
    expect(await partywall(['verify', '--baseline', 'broken.json'], { cwd, env })).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('reading the baseline'),
    });
    expect(await partywall(['verify', '--baseline', 'missing.json'], { cwd, env })).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('there is no such file'),
    });
  });

  test('the baseline of no run is not confused with a sound one', async () => {
    expect((await partywall(['verify', '--url', 'postgresql://127.0.0.1:1/none'], { cwd: on.cwd, env })).status).toBe(2);
  });
});
