import type { Catalog } from '../../catalog/catalog.ts';
import { protectedSetting } from '../../wall/context-sql.ts';
import { type Finding, finding } from '../finding.ts';
import type { Severity } from '../rules/rule-text.ts';
import { bypasses, reached, type StaticFacts } from './static-facts.ts';

/** Predefined roles that reach around the wall; those not listed (pg_checkpoint, pg_use_reserved_connections) do not. */
const predefined: Readonly<Record<string, { severity: Severity; what: string }>> = {
  pg_read_all_data: { severity: 'critical', what: 'reads every table that has no policy, and all sequences' },
  pg_write_all_data: { severity: 'critical', what: 'writes every table that has no policy' },
  pg_read_server_files: { severity: 'critical', what: 'reads the files of the server' },
  pg_write_server_files: { severity: 'critical', what: 'writes the files of the server' },
  pg_execute_server_program: { severity: 'critical', what: 'runs programs on the server' },
  pg_database_owner: { severity: 'critical', what: 'owns the database and schema public' },
  pg_create_subscription: { severity: 'high', what: 'receives data from other servers as the owner of tables' },
  pg_maintain: { severity: 'medium', what: 'locks and rewrites every table' },
  pg_signal_backend: { severity: 'medium', what: 'ends the sessions of other roles' },
  pg_monitor: { severity: 'medium', what: 'reads the SQL text of all sessions' },
  pg_read_all_stats: { severity: 'medium', what: 'reads the SQL text of all sessions' },
  pg_stat_scan_tables: { severity: 'medium', what: 'runs functions that lock and scan every table' },
  pg_read_all_settings: { severity: 'low', what: 'reads settings that are for superusers' },
};

const contextSettingPrefix = 'partywall.';

export function roleRules(facts: StaticFacts): Finding[] {
  const { catalog, model } = facts;
  const { app } = model.roles;
  const role = catalog.roles.get(app);
  if (!role) return [finding('role.missing', `role ${app}`, `the model's application role ${app} does not exist`)];
  const target = `role ${app}`;
  return [
    ...(role.superuser ? [finding('role.superuser', target, `${app} is a superuser`)] : []),
    ...(role.bypassRls ? [finding('role.bypass-rls', target, `${app} has BYPASSRLS`)] : []),
    ...(role.replication ? [finding('role.replication', target, `${app} has REPLICATION`)] : []),
    ...administers(facts),
    ...memberships(facts),
    ...ownership(facts),
    ...wallRoles(facts),
    ...standingSettings(facts),
    ...parameters(facts),
    ...schemas(facts),
  ];
}

function administers({ catalog, model }: StaticFacts): Finding[] {
  const role = catalog.roles.get(model.roles.app);
  const can = [...(role?.createRole ? ['CREATEROLE'] : []), ...(role?.createDatabase ? ['CREATEDB'] : [])];
  if (can.length === 0) return [];
  const severity = role?.createRole && catalog.serverVersion < 160_000 ? 'critical' : 'high';
  return [finding('role.administers', `role ${model.roles.app}`, `${model.roles.app} has ${can.join(' and ')}`, { severity })];
}

function memberships(facts: StaticFacts): Finding[] {
  const { catalog, model, reach } = facts;
  const owners = ownersOf(catalog, model.schemas);
  const wallOwners = wallOwnersOf(facts);
  const others = new Set([model.roles.owner, model.roles.system, model.roles.service]);
  return [...reach.becomes].flatMap(([name, way]) => {
    const known = predefined[name];
    if (known) {
      return [
        finding('role.predefined', `role ${name}`, `${model.roles.app} is a member of ${name}, which ${known.what}`, {
          severity: known.severity,
          evidence: way.join(' → '),
        }),
      ];
    }
    const role = catalog.roles.get(name);
    const reasons = [
      ...(role?.superuser ? ['is a superuser'] : []),
      ...(role?.bypassRls ? ['bypasses row level security'] : []),
      ...(role?.replication ? ['can replicate'] : []),
      ...(role?.createRole ? ['makes roles'] : []),
      ...(owners.has(name) ? ['owns tables'] : []),
      ...(wallOwners.has(name) ? ['owns what is in schema partywall'] : []),
      ...(others.has(name) ? ['is another role of the wall'] : []),
    ];
    if (reasons.length === 0) return [];
    return [finding('role.membership', `role ${name}`, `${model.roles.app} can become ${name}, which ${reasons.join(' and ')}`, { evidence: way.join(' → ') })];
  });
}

function ownership({ catalog, model }: StaticFacts): Finding[] {
  const { app } = model.roles;
  const owned = [
    ...[...catalog.relations.values()].filter((relation) => relation.owner === app).map((relation) => String(relation.table)),
    ...catalog.sequences.filter((sequence) => sequence.owner === app && !sequence.ownedBy).map((sequence) => `sequence ${sequence.schema}.${sequence.name}`),
    ...catalog.functions.filter((routine) => routine.owner === app).map((routine) => `function ${routine.schema}.${routine.name}(${routine.arguments})`),
    ...[...catalog.schemas.values()].filter((schema) => schema.owner === app).map((schema) => `schema ${schema.name}`),
    ...(catalog.runtime?.owner === app ? ['schema partywall'] : []),
    ...(catalog.runtime?.functions ?? [])
      .filter((routine) => routine.owner === app)
      .map((routine) => `function partywall.${routine.name}(${routine.arguments})`),
  ];
  return owned.map((name) => finding('role.owner', name, `${app} owns ${name}`));
}

function ownersOf(catalog: Catalog, schemas: readonly string[]): ReadonlySet<string> {
  return new Set([...catalog.relations.values()].filter((relation) => schemas.includes(relation.schema)).map((relation) => relation.owner));
}

/** Who could read the keys of the seal, or put something else in the place of a function that every policy asks. */
function wallOwnersOf({ catalog: { runtime } }: StaticFacts): ReadonlySet<string> {
  return new Set((runtime ? [runtime, ...runtime.functions, ...runtime.relations] : []).map(({ owner }) => owner));
}

/** The other roles of the wall: apart from each other, and not bound where their work is over all tenants. */
function wallRoles({ catalog, model }: StaticFacts): Finding[] {
  const { owner, app, system, service } = model.roles;
  const findings: Finding[] = [];
  for (const name of [system, service]) {
    const role = catalog.roles.get(name);
    if (!role) continue;
    if (!bypasses(catalog, name)) {
      findings.push(finding('role.bound-jobs', `role ${name}`, `${name} has no BYPASSRLS, so its work sees no rows`));
    }
    for (const membership of role.memberOf) {
      if (membership.set && [owner, app, system, service].includes(membership.role)) {
        findings.push(finding('role.wall-roles-joined', `role ${name}`, `${name} can become ${membership.role}`));
      }
    }
  }
  return findings;
}

/** Settings that every session of the application starts with. */
function standingSettings({ catalog, model, reach }: StaticFacts): Finding[] {
  const { app } = model.roles;
  return catalog.settings.flatMap((setting) => {
    if (setting.role !== '' && setting.role !== app) return [];
    const owner = setting.role === '' ? `database ${setting.database || 'any'}` : `role ${setting.role}`;
    const target = `${setting.name} of ${owner}`;
    const evidence = `${setting.name} = ${setting.value}`;
    // A setting that the server does not know is kept as it was written, and read whatever its letters.
    if (setting.name.toLowerCase().startsWith(contextSettingPrefix) || (setting.name === protectedSetting && setting.value !== '')) {
      return [finding('setting.standing-context', target, `every session starts with ${setting.name} set, by ${owner}`, { evidence })];
    }
    if (setting.name === 'role') return [finding('setting.standing-role', target, `sessions start as role ${setting.value}, by ${owner}`, { evidence })];
    if (setting.name === 'row_security' && setting.value !== 'on') {
      return [finding('setting.row-security', target, `row_security is ${setting.value}, by ${owner}`, { evidence })];
    }
    if (setting.name === 'standard_conforming_strings' && setting.value !== 'on') {
      return [finding('setting.strings', target, `standard_conforming_strings is ${setting.value}, by ${owner}`, { evidence })];
    }
    if (setting.name === 'session_replication_role' && setting.value !== 'origin') {
      return [finding('setting.replication-role', target, `session_replication_role is ${setting.value}, by ${owner}`, { evidence })];
    }
    if (setting.name === 'search_path') {
      const strange = pathSchemas(setting.value).filter((name) => isStrange(name, { catalog, model, reach }));
      if (strange.length > 0) {
        return [finding('setting.search-path', target, `the standing search_path of ${owner} leads to ${strange.join(', ')}`, { evidence })];
      }
    }
    return [];
  });
}

function pathSchemas(value: string): string[] {
  return value
    .split(',')
    .map((part) => part.trim().replace(/^"(.*)"$/, '$1'))
    .filter((part) => part !== '');
}

function isStrange(name: string, { catalog, model, reach }: Pick<StaticFacts, 'catalog' | 'model' | 'reach'>): boolean {
  if (name === 'pg_catalog') return false;
  if (name === 'pg_temp') return true;
  const schemas = name === '$user' ? [model.roles.app] : [name];
  return schemas.some((schema) => {
    const live = catalog.schemas.get(schema);
    if (!live) return false;
    const known = model.schemas.includes(schema) || catalog.extensions.some((extension) => extension.schema === schema);
    return !known || reached(live.grants, reach).some((grant) => grant.privilege === 'create');
  });
}

function parameters({ server, reach, model }: StaticFacts): Finding[] {
  const context = server.parameters
    .filter(({ name, grants }) => name === protectedSetting && reached(grants, reach).length > 0)
    .map(({ name }) => finding('setting.context', `parameter ${name}`, `${model.roles.app} may set ${name}`));
  const triggers = server.parameters
    .filter(({ name, grants }) => name === 'session_replication_role' && reached(grants, reach).length > 0)
    .map(({ name }) => finding('setting.replication-role', `parameter ${name}`, `${model.roles.app} may set ${name}`));
  return [...context, ...triggers];
}

function schemas({ catalog, model, reach }: StaticFacts): Finding[] {
  const { app } = model.roles;
  const creates = (grants: readonly { grantee: string; privilege: string; grantable: boolean }[]) =>
    reached(grants, reach).filter((grant) => grant.privilege === 'create');
  const findings = [...catalog.schemas.values()].flatMap((schema) => {
    const open = creates(schema.grants);
    if (open.length === 0) return [];
    const evidence = `create on schema ${schema.name} to ${open.map((grant) => grant.grantee).join(', ')}`;
    const severity = schema.name === 'public' || model.schemas.includes(schema.name) ? 'high' : 'medium';
    return [finding('schema.create', `schema ${schema.name}`, `${app} may create objects in schema ${schema.name}`, { evidence, severity })];
  });
  const database = creates(catalog.databaseGrants);
  if (database.length > 0)
    findings.push(finding('schema.database-create', `database ${catalog.database}`, `${app} may create schemas in database ${catalog.database}`));
  return findings;
}
