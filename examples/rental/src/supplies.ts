import { current } from '@partywall/wall';
import { Router } from 'express';
import { z } from 'zod';
import type { PrismaClient } from '../generated/client.ts';
import { changedOne, found, RefusedRequest } from './answers.ts';

const listMax = 200;
const usage = z.strictObject({ quantity: z.int().min(1).max(100_000), businessUnitId: z.guid().optional() });

export function supplyRoutes(prisma: PrismaClient): Router {
  const routes = Router();

  routes.get('/', async (_request, response) => {
    response.json({ items: await prisma.supply.findMany({ orderBy: { sku: 'asc' }, take: listMax }) });
  });

  routes.get('/usages', async (_request, response) => {
    response.json({ items: await prisma.supplyUsage.findMany({ orderBy: { usedAt: 'asc' }, take: listMax }) });
  });

  // What a business unit takes from the stock of its tenant.
  routes.post('/:sku/usages', async (request, response) => {
    const { quantity, businessUnitId: given } = usage.parse(request.body);
    const { tenant, unit } = current();
    const businessUnitId = given ?? unit?.toString();
    if (businessUnitId === undefined) throw new RefusedRequest(400, 'name the business unit, in X-Unit-ID or as businessUnitId');
    const { sku } = request.params;
    const used = await prisma.$transaction(async (tx) => {
      const { id: supplyId } = found(await tx.supply.findFirst({ where: { sku } }), `supply ${sku}`);
      changedOne(
        await tx.supply.updateMany({ where: { id: supplyId, stock: { gte: quantity } }, data: { stock: { decrement: quantity } } }),
        'too little in stock',
      );
      return tx.supplyUsage.create({ data: { tenantId: String(tenant), businessUnitId, supplyId, quantity } });
    });
    response.status(201).json(used);
  });

  return routes;
}
