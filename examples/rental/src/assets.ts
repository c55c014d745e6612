import { current } from '@partywall/wall';
import { Router } from 'express';
import { z } from 'zod';
import type { PrismaClient } from '../generated/client.ts';
import { found } from './answers.ts';

/* No query here filters by tenant: the wall decides which rows there are. Creating names it, because the column is the application's own. */

const listMax = 200;
const code = z.string().min(1).max(40);
const name = z.string().min(1).max(200);
const dailyCents = z.int().min(0).max(10_000_000);
const asset = z.strictObject({ code, name, dailyCents, businessUnitId: z.guid().optional() });
const changes = z.strictObject({ name: name.exactOptional(), dailyCents: dailyCents.exactOptional() });

export function assetRoutes(prisma: PrismaClient): Router {
  const routes = Router();

  routes.get('/', async (_request, response) => {
    response.json({ items: await prisma.asset.findMany({ orderBy: { code: 'asc' }, take: listMax }) });
  });

  routes.post('/', async (request, response) => {
    const { businessUnitId, ...given } = asset.parse(request.body);
    const { tenant, unit } = current();
    const data = { ...given, tenantId: String(tenant), businessUnitId: businessUnitId ?? unit?.toString() ?? null };
    response.status(201).json(await prisma.asset.create({ data }));
  });

  routes.get('/:code', async (request, response) => {
    const { code } = request.params;
    response.json(found(await prisma.asset.findFirst({ where: { code } }), `asset ${code}`));
  });

  routes.patch('/:code', async (request, response) => {
    const { code } = request.params;
    const [changed] = await prisma.asset.updateManyAndReturn({ where: { code }, data: changes.parse(request.body) });
    response.json(found(changed, `asset ${code}`));
  });

  routes.delete('/:code', async (request, response) => {
    const { code } = request.params;
    const { count } = await prisma.asset.deleteMany({ where: { code } });
    found(count > 0 ? code : undefined, `asset ${code}`);
    response.status(204).end();
  });

  return routes;
}
