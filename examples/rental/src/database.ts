import { createSystemPool, createWalledPool } from '@partywall/wall';
import { wallPrisma } from '@partywall/wall/prisma';
import { PrismaPg } from '@prisma/adapter-pg';
import type pg from 'pg';
import { PrismaClient } from '../generated/client.ts';

export interface DatabaseUrls {
  /** Of the app role: what requests use. */
  readonly app: string;
  /** Of the system role, whom the wall does not bind: seeds, the list of tenants for jobs, and observing. */
  readonly system: string;
}

export interface Database {
  readonly pool: pg.Pool;
  /** Shows the tenant of the context, and fails outside any. */
  readonly prisma: PrismaClient;
  readonly systemPool: pg.Pool;
  /** Shows every tenant; only inside `system(purpose, ...)`. */
  readonly prismaBase: PrismaClient;
  end(): Promise<void>;
}

/** The only module that knows of the wall's pools. Everything else takes `prisma`, as it did before. */
export function openDatabase({ app, system }: DatabaseUrls): Database {
  const pool = createWalledPool({
    connectionString: app,
    application_name: 'rental',
    nameStatements: true,
    rollout: { observe: { connectionString: system } },
  });
  const systemPool = createSystemPool({ connectionString: system, application_name: 'rental system', max: 2 });
  // A connection that the server ends while it is idle is reported here; without a listener it would end the process.
  for (const one of [pool, systemPool]) one.on('error', () => undefined);
  const prisma = prismaOver(pool);
  const prismaBase = prismaOver(systemPool);
  return {
    pool,
    prisma,
    systemPool,
    prismaBase,
    end: async () => {
      await Promise.all([prisma.$disconnect(), prismaBase.$disconnect()]);
      await Promise.all([pool.end(), systemPool.end()]);
    },
  };
}

function prismaOver(pool: pg.Pool): PrismaClient {
  return wallPrisma(new PrismaClient({ adapter: new PrismaPg(pool) }));
}
