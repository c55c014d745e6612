import { run, TenantContextError, wallErrorOf } from '@partywall/wall';
import { expect, test } from 'vitest';
import { demoTenants } from '../src/demo-tenants.ts';
import { seed } from '../src/seed.ts';
import { walledRental } from './walled-rental.ts';

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

test('supplies are used by a unit, as far as the stock goes', async () => {
  const use = (quantity: number, headers: Record<string, string>) => rental.as(atlas)('POST', '/api/v1/supplies/S-1/usages', { body: { quantity }, headers });
  const north = { 'x-unit-id': atlas.units[0].id };
  expect((await use(1, {})).status).toBe(400);
  expect((await use(400, north)).body).toMatchObject({ businessUnitId: atlas.units[0].id });
  expect((await use(101, north)).body).toMatchObject({ status: 409, detail: 'too little in stock' });
  expect((await rental.as(boreal)('GET', '/api/v1/supplies')).body.items).toMatchObject([{ stock: 500 }, { stock: 500 }]);
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
