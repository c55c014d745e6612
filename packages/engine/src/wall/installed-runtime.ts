import { createHash } from 'node:crypto';
import type { Catalog } from '../catalog/catalog.ts';
import { ident } from '../db/sql.ts';
import type { TenancyModel } from '../model/model.ts';
import { registerTrigger } from './derive-sql.ts';
import { operationsSql } from './operations-sql.ts';
import { jobGrants } from './runtime/jobs-sql.ts';
import { observerGrants } from './runtime/rollout-sql.ts';
import { runtimeGrants, runtimeSql } from './runtime.ts';
import type { WantedWall } from './shape.ts';

/** All that expand makes in schema `partywall`, with who may use it. */
export function installSql(model: TenancyModel, catalog: Catalog, wanted: WantedWall): string[] {
  const { app, system, service } = model.roles;
  return [
    ...runtimeSql(wanted.context),
    ...operationsSql(wanted),
    // Default privileges may have given it what was made just now.
    `revoke all on all functions in schema partywall from ${ident(app)} cascade`,
    ...[app, system, service, ...tableOwners(model, catalog, wanted)].flatMap(runtimeGrants),
    `grant select, insert, update, delete on all tables in schema partywall to ${ident(service)}`,
    `grant usage, select, update on all sequences in schema partywall to ${ident(service)}`,
    `grant execute on all functions in schema partywall to ${ident(service)}`,
    `revoke all on table partywall.seal_keys from ${ident(service)}`,
    `grant select on partywall.orphaned_data_summary to ${ident(system)}`,
    `grant execute on function partywall.orphaned_rows() to ${ident(system)}`,
    ...observerGrants(system),
    ...jobGrants(system),
    ...registerTrigger(model.tenant),
  ];
}

/** Fingerprint of all that is installed in schema `partywall`, kept in its facts: an older runtime is installed over. */
export function runtimeFingerprint(statements: readonly string[]): string {
  return createHash('sha256').update(statements.join('\0')).digest('hex').slice(0, 16);
}

/** Whether what is installed in schema `partywall` was installed by these statements: by this version, for this model. */
export function isInstalledBy(statements: readonly string[], catalog: Catalog): boolean {
  return catalog.runtime?.facts?.['runtime'] === runtimeFingerprint(statements);
}

/**
 * Owners that are no superusers. Forced row level security binds them too, and so do the defaults: without these rights their migrations
 * and SECURITY DEFINER functions would learn that a function is forbidden, not that they have no tenant; with them they may enter one.
 */
function tableOwners(model: TenancyModel, catalog: Catalog, wanted: WantedWall): string[] {
  const owners = new Set([model.roles.owner, ...[...wanted.tables.values()].map((table) => table.relation.owner)]);
  return [...owners].filter((name) => catalog.roles.get(name)?.superuser === false).sort();
}
