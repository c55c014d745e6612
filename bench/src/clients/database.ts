import { rlsRecipeSql } from '@partywall/clients/prisma-rls-recipe';
import { clientsModel, schemaSql, seedSql } from '@partywall/clients/schema';
import { applyWall, changeSeal, connect } from '@partywall/engine';

export const customersPerTenant = 50;
export const recipeRole = 'bench_recipe';

export const roles = { owner: 'postgres', app: 'bench_app', system: 'bench_system', service: 'bench_service' };
const model = clientsModel(roles);

/** The clients' schema behind the wall. */
export async function loadWalled(url: string, tenants: number): Promise<void> {
  await load(url, tenants, '');
  for (const phase of ['expand', 'contract'] as const) await applyWall({ url, model, phase, skipGate: true });
  await execute(url, 'vacuum analyze');
}

/** Seals the database; returns the key for its pools. */
export async function seal(url: string): Promise<string> {
  const client = await connect(url, { purpose: 'bench' });
  let key = '';
  const options = {
    actor: { kind: 'operator', id: 'bench' } as const,
    onKey: async (text: string) => {
      key = text;
    },
  };
  try {
    await changeSeal(client, model, { kind: 'rotate' }, options);
    await changeSeal(client, model, { kind: 'on' }, options);
  } finally {
    await client.end();
  }
  return key;
}

/** The same rows behind the policies of Prisma's own recipe. */
export function loadRecipe(url: string, tenants: number): Promise<void> {
  return load(url, tenants, rlsRecipeSql(recipeRole));
}

export function urlAs(url: string, role: string): string {
  const other = new URL(url);
  other.username = role;
  return other.toString();
}

async function load(url: string, tenants: number, more: string): Promise<void> {
  await execute(url, `set search_path = public; ${schemaSql}; ${seedSql({ tenants, customers: customersPerTenant })}; ${more}`);
}

async function execute(url: string, text: string): Promise<void> {
  const client = await connect(url, { purpose: 'bench' });
  try {
    await client.query(text);
  } finally {
    await client.end();
  }
}
