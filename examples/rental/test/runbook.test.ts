import { execFile } from 'node:child_process';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { run, TenantContextError, wallErrorOf } from '@partywall/wall';
import { afterAll, beforeAll, expect, test } from 'vitest';
import tenancy from '../partywall.config.ts';
import { demoTenants } from '../src/demo-tenants.ts';
import { tokenFor } from '../src/tokens.ts';
import { paymentsSecret, tokenSecret, walledRental } from './walled-rental.ts';

const [atlas, boreal] = demoTenants;
const rental = await walledRental();
const { prisma } = rental.clients;
const example = path.resolve(import.meta.dirname, '..');
const runbook = await fs.readFile(path.join(example, 'RUNBOOK.md'), 'utf8');

/** Programs that the page names, told where this test's server and checkout are. A request's status is a line of its own. */
const preamble = `set -euo pipefail
curl() { command curl --silent --show-error --write-out '\\n%{http_code}\\n' "$@"; }
npm() { command npm --prefix "$RENTAL_EXAMPLE" --silent "$@"; }
npx() { shift; "$RENTAL_NODE" "$RENTAL_CLI" "$@"; }
`;

let folder: string;
let env: Record<string, string>;

beforeAll(async () => {
  folder = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-rental-runbook-'));
  const { roles } = rental.model;
  await fs.writeFile(path.join(folder, 'partywall.config.ts'), `export default ${JSON.stringify({ ...tenancy, roles })};\n`);
  const { database } = rental;
  env = {
    PATH: process.env['PATH'] ?? '',
    HOME: folder,
    DATABASE_URL: database.url,
    PARTYWALL_APP_URL: database.urlAs(roles.app),
    PARTYWALL_SERVICE_URL: database.urlAs(roles.service),
    RENTAL_URL: rental.origin,
    RENTAL_APP_URL: database.urlAs(roles.app),
    RENTAL_SYSTEM_URL: database.urlAs(roles.system),
    PAYMENTS_SECRET: paymentsSecret,
    TENANT_A: atlas.id,
    TENANT_B: boreal.id,
    UNIT_A: atlas.units[0].id,
    UNIT_B: boreal.units[0].id,
    TOKEN_A: await tokenFor(atlas, tokenSecret),
    TOKEN_B: await tokenFor(boreal, tokenSecret),
    RENTAL_EXAMPLE: example,
    RENTAL_NODE: process.execPath,
    RENTAL_CLI: path.resolve(example, '../../packages/cli/bin/partywall.js'),
  };
});
afterAll(() => fs.rm(folder, { recursive: true, force: true }));

/** Shell blocks of which a heading is the nearest above, in their order. */
function blocksOf(wanted: string): string[] {
  const found: string[] = [];
  let heading = '';
  for (const { groups = {} } of runbook.matchAll(/^#+ (?<heading>.+)$|^```(?<language>\w+)\n(?<text>[\s\S]*?)^```$/gm)) {
    if (groups['heading'] !== undefined) heading = groups['heading'];
    else if (heading === wanted && groups['language'] === 'bash') found.push(groups['text'] ?? '');
  }
  return found;
}

function shell(text: string): Promise<{ status: number; output: string; errors: string }> {
  return new Promise((resolve) => {
    const script = preamble + text.replaceAll('http://localhost:3000', rental.origin);
    execFile('/bin/bash', ['-c', script], { cwd: folder, env, encoding: 'utf8' }, (error, output, errors) => {
      resolve({ status: typeof error?.code === 'number' ? error.code : error ? -1 : 0, output, errors });
    });
  });
}

async function runBlock(text: string | undefined, status = 0): Promise<string> {
  const ran = await shell(text ?? 'false');
  expect(ran.status, `${text}\n${ran.output}${ran.errors}`).toBe(status);
  return ran.output;
}

/** Statuses that curl and pay printed. */
function statuses(output: string): number[] {
  return [...output.matchAll(/^(\d{3})(?: .*)?$/gm)].map(([, status]) => Number(status));
}

test('smoke: two tenants, their assets created, read, changed and deleted, and the wall is sound', async () => {
  const output = await runBlock(blocksOf('Smoke tests')[0]);
  expect(statuses(output)).toEqual([200, 201, 200, 200, 404, 404, 204]);
  expect(output).toMatch(/"dailyCents":11000/);
  expect(output).toMatch(/sound/);
});

test('a quotation becomes a contract and an invoice', async () => {
  expect(statuses(await runBlock(blocksOf('Business workflow')[0]))).toEqual([201, 200, 201, 201, 204]);
});

test('isolation: the header of another tenant and the unit of another tenant are 403', async () => {
  const output = await runBlock(blocksOf('Verify tenant isolation')[0]);
  expect(statuses(output)).toEqual([200, 403, 403]);
  expect(output).toContain('the business unit does not belong to your tenant');
});

test('webhook: forged 401, without tenant 400, right 204, replayed 200 without effect', async () => {
  const output = await runBlock(blocksOf('Payment webhook')[0]);
  expect(statuses(output)).toEqual([401, 400, 204, 200, 200]);
  expect(output).toContain('X-Tenant-ID header required');
  const { rows } = await rental.database.query(`select "tenantId" from invoices where "paidAt" is not null`);
  expect(rows).toEqual([{ tenantId: atlas.id }]);
});

test('job: the receipt accounts for every tenant, and a complete month is not written again', async () => {
  const output = await runBlock(blocksOf('Monthly reports')[0]);
  expect(output.match(/visited 3 of 3: 2 succeeded, 0 failed, 1 skipped \(suspended 1\); \d+ rows read, 2 written/g)).toHaveLength(2);
  expect(output).toMatch(/"invoicedCents":50000,"paidCents":50000/);
});

/** What a statement outside any context comes to. */
async function outside(): Promise<unknown> {
  return prisma.asset.count().catch((error: unknown) => wallErrorOf(error)?.constructor);
}

const assetsOf = (tenant: string): Promise<number> => run({ tenant }, () => prisma.asset.count());

test('canary: observed, then one tenant in ten behind the wall, then everybody, in a process that goes on running', async () => {
  const [canary, check, enforce] = blocksOf('Canary');
  const output = await runBlock(canary);
  expect(output).toMatch(/tenants: 0 enforced, 3 observed, of 3/);
  expect(output).toMatch(/tenants: 1 enforced, 2 observed, of 3/);
  await expect.poll(() => assetsOf(atlas.id), { timeout: 20_000 }).toBe(6);
  await expect.poll(() => assetsOf(boreal.id), { timeout: 20_000 }).toBe(18);
  // The attempts of the isolation check above are a breach; of all else there were too few statements to tell.
  const gates = await runBlock(check, 1);
  expect([...gates.matchAll(/^breach +(\w+)/gm)].map(([, gate]) => gate)).toEqual(['cross_tenant_attempts']);
  expect(gates).toMatch(/^not enough +p99 /m);
  expect(await runBlock(enforce)).toMatch(/tenants: 3 enforced, 0 observed, of 3/);
  await expect.poll(() => assetsOf(boreal.id), { timeout: 20_000 }).toBe(6);
});

test('rollback: back to observing without a deploy, no row out of place, and forth again', async () => {
  const [block = ''] = blocksOf('Rollback');
  const [observe = '', ...rest] = block.split('\n\n');
  await runBlock(observe);
  await expect.poll(outside, { timeout: 20_000 }).toBe(18);
  expect(await runBlock(rest.join('\n\n'))).toMatch(/no row is out of place: \d+ of \d+ tables/);
  await expect.poll(outside, { timeout: 20_000 }).toBe(TenantContextError);
});

test('performance: the indexes that units and tenants ask for are there', async () => {
  expect(await runBlock(blocksOf('Performance degradation')[0])).toContain('missing indexes: none');
});

test('attempts: they are listed, many block their address, and an operator lifts the block', async () => {
  const [list, many, lift] = blocksOf('Cross-tenant access attempt');
  expect(await runBlock(list)).toContain(boreal.id);
  const output = await runBlock(many);
  expect(statuses(output).at(-1)).toBe(429);
  expect(new Set(statuses(output))).toEqual(new Set([403, 429]));
  expect(output).toContain('127.0.0.1');
  await runBlock(lift);
  await expect.poll(async () => (await rental.as(atlas)('GET', '/api/v1/assets')).status, { timeout: 20_000 }).toBe(200);
});
