import { current } from '@partywall/wall';
import { Router } from 'express';
import { z } from 'zod';
import type { PrismaClient } from '../generated/client.ts';
import { changedOne, found } from './answers.ts';

/* From quotation to contract to invoice. Documents are numbered by each tenant for itself. */

const listMax = 200;
const number = z.string().min(1).max(40);
const numbered = z.strictObject({ number });
const quotation = z.strictObject({ number, client: z.string(), asset: z.string(), days: z.int().min(1).max(1_000) });

export function rentalRoutes(prisma: PrismaClient): Router {
  const routes = Router();
  const tenantId = (): string => String(current().tenant);

  routes.post('/quotations', async (request, response) => {
    const { number, days, ...names } = quotation.parse(request.body);
    const client = found(await prisma.client.findFirst({ where: { code: names.client } }), `client ${names.client}`);
    const asset = found(await prisma.asset.findFirst({ where: { code: names.asset } }), `asset ${names.asset}`);
    const data = { tenantId: tenantId(), number, clientId: client.id, assetId: asset.id, days, totalCents: days * asset.dailyCents };
    response.status(201).json(await prisma.quotation.create({ data }));
  });

  routes.post('/quotations/:number/approve', async (request, response) => {
    const { number } = request.params;
    changedOne(
      await prisma.quotation.updateMany({ where: { number, status: 'DRAFT' }, data: { status: 'APPROVED' } }),
      `quotation ${number} is no draft, or not there`,
    );
    response.json(await prisma.quotation.findFirst({ where: { number } }));
  });

  // Quotation, asset and contract change together or not at all.
  routes.post('/quotations/:number/contract', async (request, response) => {
    const { number } = request.params;
    const { number: contractNumber } = numbered.parse(request.body);
    const contract = await prisma.$transaction(async (tx) => {
      const { id: quotationId, assetId, totalCents } = found(await tx.quotation.findFirst({ where: { number } }), `quotation ${number}`);
      changedOne(
        await tx.quotation.updateMany({ where: { id: quotationId, status: 'APPROVED' }, data: { status: 'CONVERTED' } }),
        `quotation ${number} is not approved`,
      );
      const made = await tx.contract.create({ data: { tenantId: tenantId(), number: contractNumber, quotationId, assetId, totalCents } });
      changedOne(await tx.asset.updateMany({ where: { id: assetId, status: 'AVAILABLE' }, data: { status: 'RENTED' } }), 'the asset is not available');
      return made;
    });
    response.status(201).json(contract);
  });

  routes.post('/contracts/:number/return', async (request, response) => {
    const { number } = request.params;
    await prisma.$transaction(async (tx) => {
      const { id, assetId } = found(await tx.contract.findFirst({ where: { number } }), `contract ${number}`);
      changedOne(await tx.contract.updateMany({ where: { id, status: 'RUNNING' }, data: { status: 'RETURNED' } }), `contract ${number} is not running`);
      await tx.asset.updateMany({ where: { id: assetId }, data: { status: 'AVAILABLE' } });
    });
    response.status(204).end();
  });

  routes.post('/contracts/:number/invoices', async (request, response) => {
    const { number } = numbered.parse(request.body);
    const { id: contractId, totalCents } = found(await prisma.contract.findFirst({ where: { number: request.params.number } }), 'such contract');
    response.status(201).json(await prisma.invoice.create({ data: { tenantId: tenantId(), number, contractId, totalCents } }));
  });

  routes.get('/invoices', async (_request, response) => {
    response.json({ items: await prisma.invoice.findMany({ orderBy: { number: 'asc' }, take: listMax }) });
  });

  routes.get('/invoices/:number', async (request, response) => {
    const { number } = request.params;
    response.json(found(await prisma.invoice.findFirst({ where: { number } }), `invoice ${number}`));
  });

  return routes;
}
