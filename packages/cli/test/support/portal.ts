import { applyWall, connect, installControl, parseModel, type TenancyModel } from '@partywall/engine';
import { createDatabase, suffix, type TestDatabase } from '../../../../test/support/database.ts';
import { folder } from './command.ts';

/** A small database nobody hardened: tenants, customers with a tenant column, notes without one, a shared table. */
export interface Portal {
  readonly database: TestDatabase;
  readonly roles: { readonly owner: string; readonly app: string; readonly system: string; readonly service: string };
  /** Folder with a config that classifies every table. */
  readonly cwd: string;
  readonly env: { readonly DATABASE_URL: string };
}

const schema = `
create table tenants (id uuid primary key, name text not null);
create table customers (id bigint generated always as identity primary key, tenant_id uuid not null references tenants, email text not null, unique (email));
create table notes (id bigint generated always as identity primary key, customer_id bigint not null references customers on delete cascade, body text not null);
create table countries (code text primary key, name text not null);
insert into tenants values ('11111111-1111-4111-8111-111111111111', 'acme'), ('22222222-2222-4222-8222-222222222222', 'globex');
insert into customers (tenant_id, email) select id, name || n || '@example.org' from tenants, generate_series(1, 20) n;
insert into notes (customer_id, body) select id, 'note' from customers, generate_series(1, 3);
insert into countries values ('nl', 'Netherlands');
`;

export async function portal(): Promise<Portal> {
  const database = await createDatabase();
  await database.query(schema);
  const name = suffix();
  const roles = { owner: 'postgres', app: `app_${name}`, system: `system_${name}`, service: `service_${name}` };
  return { database, roles, cwd: await folder({ 'partywall.config.ts': configText(roles) }), env: { DATABASE_URL: database.url } };
}

export interface ControlledPortal extends Portal {
  readonly model: TenancyModel;
  /** Connection string of the service role. */
  readonly service: string;
}

/** The portal behind its wall, raised to `phase`, and under the control plane; `more` are further parts of the model. */
export async function controlledPortal(phase: 'expand' | 'contract' = 'expand', more: Readonly<Record<string, unknown>> = {}): Promise<ControlledPortal> {
  const on = await portal();
  const model = parseModel(configOf(on.roles, {}, more));
  for (const each of phase === 'expand' ? (['expand'] as const) : (['expand', 'contract'] as const)) {
    await applyWall({ url: on.database.url, model, phase: each, skipGate: true });
  }
  const client = await connect(on.database.url, { purpose: 'test' });
  await installControl(client, model).finally(() => client.end());
  return { ...on, model, service: on.database.urlAs(on.roles.service) };
}

/** Text of a config for the portal; `tables` replaces or adds lines. */
export function configText(roles: Portal['roles'], tables?: Readonly<Record<string, unknown>>, more?: Readonly<Record<string, unknown>>): string {
  return `import { defineTenancy } from 'partywall';\n\nexport default defineTenancy(${JSON.stringify(configOf(roles, tables, more), undefined, 2)});\n`;
}

function configOf(roles: Portal['roles'], tables: Readonly<Record<string, unknown>> = {}, more: Readonly<Record<string, unknown>> = {}): object {
  return {
    tenant: { table: 'public.tenants', key: 'id' },
    roles,
    tables: {
      'public.customers': { scope: 'scoped', column: 'tenant_id', uniques: { customers_email_key: 'per tenant' } },
      'public.notes': { scope: 'scoped', through: { table: 'public.customers', columns: 'customer_id' } },
      'public.countries': { scope: 'shared' },
      ...tables,
    },
    ...more,
  };
}
