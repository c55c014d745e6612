import { system } from '@partywall/wall';
import type { PrismaClient } from '../generated/client.ts';
import { demoTenants } from './demo-tenants.ts';

const machines = ['Tower crane', 'Excavator', 'Forklift', 'Scissor lift', 'Generator', 'Concrete mixer'] as const;
const clientNames = ['Harlow Homes', 'Quay Builders', 'Sable Civil'] as const;

/**
 * Fills an empty database; false where tenants are there already. It works for all tenants, so it takes `prismaBase`, and each row names its tenant:
 * with `prisma` it would throw `TenantContextError`.
 */
export function seed(prismaBase: PrismaClient): Promise<boolean> {
  return system('seed', async () => {
    if ((await prismaBase.tenant.count()) > 0) return false;
    await prismaBase.$transaction(async (tx) => {
      for (const { id, slug, name, status, user, units } of demoTenants) {
        // Its own statements must find the tenant active; it is suspended when all is there.
        await tx.tenant.create({ data: { id, slug, name } });
        const tenantId = id;
        await tx.user.create({ data: { tenantId, ...user } });
        await tx.businessUnit.createMany({ data: units.map((unit) => ({ tenantId, ...unit })) });
        const clients = await tx.client.createManyAndReturn({ data: clientNames.map((client, at) => ({ tenantId, code: `K-${at + 1}`, name: client })) });
        await tx.clientBusinessUnit.createMany({
          data: clients.flatMap((client) => units.map((unit) => ({ tenantId, clientId: client.id, businessUnitId: unit.id }))),
        });
        await tx.asset.createMany({
          data: machines.map((machine, at) => ({
            tenantId,
            // The last machine is the tenant's as a whole.
            businessUnitId: at === machines.length - 1 ? null : (units[at % units.length]?.id ?? null),
            code: `M-${at + 1}`,
            name: machine,
            dailyCents: 10_000 + 2_500 * at,
          })),
        });
        await tx.supply.createMany({ data: ['Diesel', 'Hydraulic oil'].map((supply, at) => ({ tenantId, sku: `S-${at + 1}`, name: supply, stock: 500 })) });
        if (status !== 'ACTIVE') await tx.tenant.update({ where: { id }, data: { status } });
      }
    });
    return true;
  });
}
