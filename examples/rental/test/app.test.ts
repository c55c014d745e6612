import { run, TenantContextError, wallErrorOf } from '@partywall/wall';
import { signWebhook } from '@partywall/wall/webhooks';
import { expect, test } from 'vitest';
import { demoTenants } from '../src/demo-tenants.ts';
import { monthBefore, processMonthlyReports } from '../src/reports.ts';
import { seed } from '../src/seed.ts';
import { paymentsSecret, walledRental } from './walled-rental.ts';

const [atlas, boreal, cargo] = demoTenants;
const rental = await walledRental();
const { prisma, prismaBase } = rental.clients;

test('a tenant creates, reads, changes and deletes assets, and the other tenant sees nothing of it, even under the same code', async () => {
  const a = rental.as(atlas);
  const b = rental.as(boreal);
  expect(await a('POST', '/api/v1/assets', { body: { code: 'X-1', name: 'Crusher', dailyCents: 9_900 } })).toMatchObject({ status: 201 });
  expect((await a('GET', '/api/v1/assets')).body.items).toHaveLength(7);
  expect((await b('GET', '/api/v1/assets')).body.items).toHaveLength(6);
  expect((await b('GET', '/api/v1/assets/X-1')).status).toBe(404);
  expect((await b('PATCH', '/api/v1/assets/X-1', { body: { dailyCents: 1 } })).status).toBe(404);
  expect((await b('DELETE', '/api/v1/assets/X-1')).status).toBe(404);
  expect((await b('POST', '/api/v1/assets', { body: { code: 'X-1', name: 'Crane of another', dailyCents: 1 } })).status).toBe(201);
  expect((await a('POST', '/api/v1/assets', { body: { code: 'X-1', name: 'Twice', dailyCents: 1 } })).status).toBe(409);
  expect((await a('PATCH', '/api/v1/assets/X-1', { body: { dailyCents: 8_800 } })).body).toMatchObject({ name: 'Crusher', dailyCents: 8_800 });
  expect((await a('DELETE', '/api/v1/assets/X-1')).status).toBe(204);
  const { rows } = await rental.database.query(`select "tenantId", name from assets where code = 'X-1'`);
  expect(rows).toEqual([{ tenantId: boreal.id, name: 'Crane of another' }]);
});

test('a quotation becomes a contract and an invoice, once, and an asset that is rented out is not rented again', async () => {
  const a = rental.as(atlas);
  for (const number of ['Q-1', 'Q-2']) {
    const made = await a('POST', '/api/v1/quotations', { body: { number, client: 'K-1', asset: 'M-2', days: 3 } });
    expect(made).toMatchObject({ status: 201, body: { totalCents: 37_500, status: 'DRAFT' } });
  }
  expect((await a('POST', '/api/v1/quotations/Q-1/contract', { body: { number: 'C-1' } })).status).toBe(409);
  for (const number of ['Q-1', 'Q-2']) expect((await a('POST', `/api/v1/quotations/${number}/approve`)).body).toMatchObject({ status: 'APPROVED' });
  expect((await a('POST', '/api/v1/quotations/Q-1/contract', { body: { number: 'C-1' } })).status).toBe(201);
  expect((await a('POST', '/api/v1/quotations/Q-2/contract', { body: { number: 'C-2' } })).body).toMatchObject({ detail: 'the asset is not available' });
  // The transaction that failed left nothing.
  expect(await rental.database.query(`select number, status from quotations where "tenantId" = $1 order by number`, [atlas.id])).toMatchObject({
    rows: [
      { number: 'Q-1', status: 'CONVERTED' },
      { number: 'Q-2', status: 'APPROVED' },
    ],
  });
  expect((await a('POST', '/api/v1/contracts/C-1/invoices', { body: { number: 'I-1' } })).body).toMatchObject({ totalCents: 37_500, paidAt: null });
  expect((await rental.as(boreal)('GET', '/api/v1/invoices')).body.items).toEqual([]);
  expect((await rental.as(boreal)('POST', '/api/v1/contracts/C-1/invoices', { body: { number: 'I-9' } })).status).toBe(404);
  expect((await a('POST', '/api/v1/contracts/C-1/return')).status).toBe(204);
  expect((await a('POST', '/api/v1/quotations/Q-2/contract', { body: { number: 'C-2' } })).status).toBe(201);
});

test('another tenant in the header and a business unit of another tenant are 403, a credential of nobody 401, a suspended tenant 403', async () => {
  const a = rental.as(atlas);
  expect(await a('GET', '/api/v1/assets', { headers: { 'x-tenant-id': atlas.id } })).toMatchObject({ status: 200 });
  expect(await a('GET', '/api/v1/assets', { headers: { 'x-tenant-id': boreal.id } })).toMatchObject({ status: 403, body: { code: 'tenant_foreign' } });
  expect(await a('GET', '/api/v1/assets', { headers: { 'x-unit-id': boreal.units[0].id } })).toMatchObject({
    status: 403,
    body: { detail: 'the business unit does not belong to your tenant' },
  });
  expect((await a('GET', '/api/v1/assets', { headers: { authorization: 'Bearer nobody' } })).status).toBe(401);
  expect((await rental.as(cargo)('GET', '/api/v1/assets')).body).toMatchObject({ status: 403, code: 'tenant_suspended' });
  expect(rental.troubles).toEqual([]);
});

test('an asset in the unit of another tenant is refused by the database itself, though the application passes the id on', async () => {
  const stolen = { code: 'X-2', name: 'Theirs', dailyCents: 1, businessUnitId: boreal.units[0].id };
  expect((await rental.as(atlas)('POST', '/api/v1/assets', { body: stolen })).status).toBe(409);
});

test('what a request gets wrong is told as JSON, and no answer holds a stack or what the database said', async () => {
  const a = rental.as(atlas);
  const asset = { code: 'X-3', name: 'Long arm', dailyCents: 10_000_000 };
  expect((await a('POST', '/api/v1/assets', { body: asset })).status).toBe(201);
  const quotation = { number: 'Q-9', client: 'K-1', asset: 'X-3', days: 1_000 };
  expect(await a('POST', '/api/v1/quotations', { body: quotation })).toMatchObject({ status: 400, body: { detail: 'a number is too large' } });
  expect(await a('POST', '/api/v1/assets', { body: { ...asset, code: 'X\u0000' } })).toMatchObject({ status: 400, body: { status: 400 } });
  expect(await a('GET', '/api/v1/assets/%00')).toMatchObject({ status: 400, body: { status: 400 } });
  expect(await a('GET', '/api/v1/assets/%ff')).toMatchObject({ status: 400, body: { status: 400 } });
  expect(await a('POST', '/api/v1/assets', { body: { ...asset, name: 'x'.repeat(200_000) } })).toMatchObject({ status: 413, body: { status: 413 } });
  expect(await a('GET', '/api/v1/nothing')).toMatchObject({ status: 404, body: { detail: 'there is no GET /api/v1/nothing' } });
  const odd = await fetch(`${rental.origin}/health`, { method: 'POST', body: '{}', headers: { 'content-type': 'application/json; charset=odd' } });
  expect([odd.status, await odd.json()]).toEqual([415, { status: 415, detail: 'unsupported charset "ODD"' }]);
  expect((await a('DELETE', '/api/v1/assets/X-3')).status).toBe(204);
  expect(rental.troubles).toEqual([]);
});

test('a failure of the server says outside only that it failed', async () => {
  await rental.database.query('alter table supplies rename to supplies_away');
  const answer = await rental
    .as(atlas)('GET', '/api/v1/supplies')
    .finally(() => rental.database.query('alter table supplies_away rename to supplies'));
  expect(answer).toEqual({ status: 500, body: { status: 500, detail: 'the server failed; its log says why' } });
  expect(rental.troubles.splice(0)).toHaveLength(1);
});

test('supplies are used by a unit, as far as the stock goes', async () => {
  const use = (quantity: number, headers: Record<string, string>) => rental.as(atlas)('POST', '/api/v1/supplies/S-1/usages', { body: { quantity }, headers });
  const north = { 'x-unit-id': atlas.units[0].id };
  expect((await use(1, {})).status).toBe(400);
  expect((await use(400, north)).body).toMatchObject({ businessUnitId: atlas.units[0].id });
  expect((await use(101, north)).body).toMatchObject({ status: 409, detail: 'too little in stock' });
  expect((await rental.as(boreal)('GET', '/api/v1/supplies')).body.items).toMatchObject([{ stock: 500 }, { stock: 500 }]);
});

test('a request that names its business unit sees the assets of that unit and those of the whole tenant, and writes none of another unit', async () => {
  const [north, south] = atlas.units;
  const inUnit = (method: string, path: string, body?: object) => rental.as(atlas)(method, path, { headers: { 'x-unit-id': north.id }, ...(body && { body }) });
  const units = new Set((await inUnit('GET', '/api/v1/assets')).body.items.map(({ businessUnitId }) => businessUnitId));
  expect(units).toEqual(new Set([north.id, null]));
  const made = { code: 'N-1', name: 'Saw', dailyCents: 100 };
  expect((await inUnit('POST', '/api/v1/assets', made)).body).toMatchObject({ businessUnitId: north.id });
  expect((await inUnit('POST', '/api/v1/assets', { ...made, code: 'N-2', businessUnitId: south.id })).body).toMatchObject({
    status: 403,
    code: 'cross_tenant',
  });
  // M-2 is of the other unit, M-6 of the tenant as a whole.
  expect((await inUnit('DELETE', '/api/v1/assets/M-2')).status).toBe(404);
  expect((await inUnit('PATCH', '/api/v1/assets/M-6', { dailyCents: 1 })).status).toBe(404);
  const { rows } = await rental.database.query(`select code from assets where "tenantId" = $1 and "dailyCents" = 1`, [atlas.id]);
  expect(rows).toEqual([]);
});

test('a payment is recorded for the tenant that its header names, once, and only where its signature holds', async () => {
  const { rows: due } = await rental.database.query(
    `insert into quotations ("tenantId", number, "clientId", "assetId", days, "totalCents", status)
     select c."tenantId", 'Q-P', c.id, a.id, 1, 700, 'CONVERTED' from clients c join assets a using ("tenantId") where c.code = 'K-1' and a.code = 'M-1' returning id`,
  );
  expect(due).toHaveLength(3);
  await rental.database.query(
    `insert into contracts ("tenantId", number, "quotationId", "assetId", "totalCents") select "tenantId", 'C-P', id, "assetId", 700 from quotations where number = 'Q-P'`,
  );
  await rental.database.query(
    `insert into invoices ("tenantId", number, "contractId", "totalCents") select "tenantId", 'I-P', id, 700 from contracts where number = 'C-P'`,
  );
  const body = JSON.stringify({ invoice: 'I-P' });
  const send = async (id: string, headers: Record<string, string>, secret = paymentsSecret) => {
    const signed = signWebhook({ secrets: [secret], id, timestamp: new Date(), body });
    const response = await fetch(`${rental.origin}/webhooks/payment`, { method: 'POST', body, headers: { ...signed, ...headers } });
    return { status: response.status, text: await response.text() };
  };
  const paid = async () => (await rental.database.query(`select "tenantId" as tenant from invoices where number = 'I-P' and "paidAt" is not null`)).rows;
  expect(await send('forged', { 'x-tenant-id': atlas.id }, 'some other secret of anybody')).toMatchObject({ status: 401 });
  expect(await send('headless', {})).toMatchObject({ status: 400, text: expect.stringContaining('X-Tenant-ID header required') });
  expect(await paid()).toEqual([]);
  expect(await send('pay-1', { 'x-tenant-id': boreal.id })).toMatchObject({ status: 204 });
  expect(await paid()).toEqual([{ tenant: boreal.id }]);
  // Replayed, and replayed for another tenant: the id is the sender's.
  expect(await send('pay-1', { 'x-tenant-id': boreal.id })).toMatchObject({ status: 200, text: '{"duplicate":true}' });
  expect(await send('pay-1', { 'x-tenant-id': atlas.id })).toMatchObject({ status: 200, text: '{"duplicate":true}' });
  expect(await send('pay-2', { 'x-tenant-id': cargo.id })).toMatchObject({ status: 403 });
  expect(await paid()).toEqual([{ tenant: boreal.id }]);
});

test('the monthly job writes each active tenant its own report, says whom it visited, and does not write a complete month again', async () => {
  expect(monthBefore(new Date('2026-01-01T03:00:00Z'))).toBe('2025-12');
  await rental.database.query(`update invoices set "issuedAt" = '2026-03-31T23:59:59Z' where number = 'I-P'`);
  const receipt = await processMonthlyReports(rental.clients, '2026-03');
  expect(receipt).toMatchObject({ status: 'complete', planned: 3, succeeded: 2, failed: 0, skips: { suspended: 1 }, alerts: [] });
  expect(receipt.rowsWritten).toBe(2);
  const reports = async () =>
    (await rental.database.query(`select "tenantId", "invoicedCents"::int as invoiced, "paidCents"::int as paid from monthly_reports where month = '2026-03'`))
      .rows;
  const written = await reports();
  expect(written).toHaveLength(2);
  expect(written).toContainEqual({ tenantId: atlas.id, invoiced: 700, paid: 0 });
  expect(written).toContainEqual({ tenantId: boreal.id, invoiced: 700, paid: 700 });
  expect(await processMonthlyReports(rental.clients, '2026-03')).toEqual(receipt);
  expect((await rental.as(boreal)('GET', '/api/v1/reports')).body.items).toMatchObject([{ month: '2026-03', paidCents: 700 }]);
  await expect(processMonthlyReports(rental.clients, 'March')).rejects.toThrow(TypeError);
});

test('a script that takes the tenants’ client fails before anything is sent, and the seed through the system client fills an empty database once', async () => {
  const refused = await prisma.asset.findMany().then(
    () => undefined,
    (error: unknown) => wallErrorOf(error),
  );
  expect(refused).toBeInstanceOf(TenantContextError);
  expect(await seed(prismaBase)).toBe(false);
  expect(await run({ tenant: atlas.id }, () => prisma.client.count())).toBe(3);
});
