import { current } from '@partywall/wall';
import { PrismaPg } from '@prisma/adapter-pg';
import type pg from 'pg';
import { PrismaClient } from '../generated/client.ts';

/**
 * Prisma's own recipe for row level security, to compare with: an extension that puts each operation into a transaction that sets a
 * setting first (https://github.com/prisma/prisma-client-extensions/tree/main/row-level-security). Its database: `rlsRecipeSql`.
 */
export function rlsRecipeOver(pool: pg.Pool) {
  const base = new PrismaClient({ adapter: new PrismaPg(pool) });
  return base.$extends({
    query: {
      $allModels: {
        async $allOperations({ args, query }) {
          const [, result] = await base.$transaction([base.$executeRaw`select set_config('app.tenant_id', ${String(current().tenant)}, true)`, query(args)]);
          return result;
        },
      },
    },
  });
}

/** Policies as the recipe has them, on the table that says whose its rows are, and the role that they bind. */
export function rlsRecipeSql(role: string): string {
  return `create role ${role} login;
    grant select, insert, update, delete on customers to ${role};
    alter table customers enable row level security;
    alter table customers force row level security;
    create policy tenant on customers using (tenant_id = current_setting('app.tenant_id', true)::uuid)`;
}
