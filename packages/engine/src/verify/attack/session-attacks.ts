import type pg from 'pg';
import type { Catalog } from '../../catalog/catalog.ts';
import { ident, literal } from '../../db/sql.ts';
import type { TenancyModel } from '../../model/model.ts';
import { entering } from '../../wall/entering.ts';
import { wallStates } from '../../wall/runtime.ts';
import type { ServerFacts } from '../server-facts.ts';
import type { Reach } from '../static/static-facts.ts';
import { type AttackResult, broken, held, notApplicable, refused, stuck, verdict } from './attack-result.ts';
import type { Cast } from './scene.ts';
import { enterWithoutSeal, setContextByHand } from './seal-attacks.ts';
import { become, type Means, type Probe, rolledBack, type Transaction } from './transaction.ts';

/** What the attacks on the session itself need. */
export interface SessionScene {
  readonly client: pg.Client;
  readonly catalog: Catalog;
  readonly model: TenancyModel;
  readonly server: ServerFacts;
  readonly reach: Reach;
  readonly cast: Cast;
  readonly means: Means;
  /** Tenants that may not be entered, and why. */
  readonly closed: readonly { readonly tenant: string; readonly state: string; readonly placed: boolean }[];
}

const rolesMax = 100;

/** Attacks that need no row: becoming somebody else, changing the session, making objects, entering and reading the registry. */
export async function attackSession(scene: SessionScene): Promise<AttackResult[]> {
  return [
    await login(scene),
    ...(await takeRoles(scene)),
    await rolledBack(scene.client, switchTriggersOff),
    await rolledBack(scene.client, (tx) => createObjects(tx, scene)),
    ...(await rolledBack(scene.client, (tx) => enterTenants(tx, scene), scene.means)),
    await rolledBack(scene.client, (tx) => setContextByHand(tx, { ...scene, app: scene.model.roles.app }), scene.means),
    await rolledBack(scene.client, (tx) => enterWithoutSeal(tx, scene), scene.means),
    await rolledBack(scene.client, (tx) => readRegistry(tx, scene), scene.means),
  ];
}

async function login({ client, model }: SessionScene): Promise<AttackResult> {
  const target = `role ${model.roles.app}`;
  return rolledBack(client, async (tx) => {
    await tx.keep('reset role');
    const probe = await tx.probe('select current_user::text as now, session_user::text as login');
    if (!probe.ok) return stuck('escape.login', target, `asking who the session is: ${probe.state} ${probe.message}`);
    const [row] = probe.rows;
    if (row?.['now'] === model.roles.app && row['login'] === model.roles.app) return held('escape.login', target);
    return broken('escape.login', target, `after RESET ROLE the session is ${row?.['now']}: it logged in as ${row?.['login']}`);
  });
}

/** Roles that would gain something; of a cluster with many, the first hundred. */
async function takeRoles({ client, catalog, model, reach }: SessionScene): Promise<AttackResult[]> {
  const owners = new Set([...catalog.relations.values()].map((relation) => relation.owner));
  const { app, owner, system, service } = model.roles;
  const worth = [...catalog.roles.values()].filter(
    (role) =>
      role.name !== app &&
      (role.superuser || role.bypassRls || owners.has(role.name) || [owner, system, service].includes(role.name) || reach.becomes.has(role.name)),
  );
  const results: AttackResult[] = [];
  for (const role of worth.slice(0, rolesMax)) {
    const target = `role ${role.name}`;
    const result = await rolledBack(client, async (tx) => {
      const taken = await tx.probe(`set local role ${ident(role.name)}`);
      const login = await tx.probe(`set local session authorization ${ident(role.name)}`);
      // Roles are the cluster's: one may be dropped while this database's wall is attacked.
      const still = await tx.probe(`select from pg_catalog.pg_roles where rolname = ${literal(role.name)}`);
      if (!taken.ok && !login.ok && still.ok && still.rows.length === 0) return notApplicable('escape.set-role', target, 'the role is no longer there');
      return verdict('escape.set-role', target, [
        { what: `SET ROLE ${role.name}`, probe: taken, reached: () => 1 },
        { what: `SET SESSION AUTHORIZATION ${role.name}`, probe: login, reached: () => 1 },
      ]);
    });
    results.push(result.outcome === 'broken' ? { ...result, message: `the application became ${role.name}` } : result);
  }
  return results;
}

async function switchTriggersOff(tx: Transaction): Promise<AttackResult> {
  const target = 'session_replication_role';
  const probe = await tx.probe('set local session_replication_role = replica');
  if (probe.ok) return broken('escape.replication-role', target, 'the session switched triggers and foreign keys off');
  return verdict('escape.replication-role', target, [{ what: 'SET session_replication_role', probe }]);
}

async function createObjects(tx: Transaction, { catalog, model }: SessionScene): Promise<AttackResult> {
  const schemas = [...catalog.schemas.keys(), 'partywall'];
  const made: string[] = [];
  for (const schema of schemas) {
    const name = `${ident(schema)}.${ident('pw probe')}`;
    for (const [what, statement] of [
      ['a table', `create table ${name} (x integer)`],
      ['a function', `create function ${name}() returns integer language sql as 'select 1'`],
    ] as const) {
      const probe = await tx.probe(statement);
      if (probe.ok) made.push(`${what} in schema ${schema}`);
      else if (probe.state !== refused)
        return stuck('escape.create', `role ${model.roles.app}`, `making ${what} in schema ${schema}: ${probe.state} ${probe.message}`);
    }
  }
  const schema = await tx.probe('create schema "pw probe"');
  if (schema.ok) made.push('a schema');
  return made.length > 0
    ? broken('escape.create', `role ${model.roles.app}`, `the application made ${made.join(', ')}`)
    : held('escape.create', `role ${model.roles.app}`);
}

/** The control is that the victim's own tenant is admitted. */
async function enterTenants(tx: Transaction, scene: SessionScene): Promise<AttackResult[]> {
  const { cast, closed } = scene;
  // A standing context is a finding of its own; here it would only be in the way.
  await become(tx, '');
  const forms = waysIn(scene);
  const expected = (entry: { state: string; placed: boolean }): string =>
    entry.placed ? wallStates.placedElsewhere : entry.state === 'cancelled' ? wallStates.cancelled : wallStates.suspended;
  const attempts = [
    { what: 'an unknown tenant', target: 'partywall.enter of unknown tenants', tenant: cast.nobody, state: wallStates.unknownTenant as string },
    ...closed.map((entry) => ({
      what: `a tenant that is ${entry.placed ? 'placed elsewhere' : entry.state}`,
      target: 'partywall.enter of closed tenants',
      tenant: entry.tenant,
      state: expected(entry) as string,
    })),
  ];
  const results: AttackResult[] = [];
  for (const enter of forms) {
    const control = await tx.undone(() => enter(tx, cast.victim));
    if (!control.ok) return [stuck('escape.enter', 'partywall.enter', `control, entering an active tenant: ${control.state} ${control.message}`)];
    for (const { what, target, tenant, state } of attempts) {
      const probe = await tx.undone(() => enter(tx, tenant));
      if (probe.ok) results.push(broken('escape.enter', target, `${what} was admitted`));
      else
        results.push(
          probe.state === state ? held('escape.enter', target) : stuck('escape.enter', target, `${what}: ${probe.state} ${probe.message}, not ${state}`),
        );
    }
    const second = await tx.undone(async () => {
      await enter(tx, cast.victim);
      return enter(tx, cast.attacker);
    });
    const target = 'partywall.enter of a second tenant';
    if (second.ok) results.push(broken('escape.enter', target, 'a second tenant was admitted in one transaction'));
    else
      results.push(
        second.state === wallStates.crossTenant
          ? held('escape.enter', target)
          : stuck('escape.enter', target, `a second tenant: ${second.state} ${second.message}`),
      );
  }
  if (closed.length === 0)
    results.push(notApplicable('escape.enter', 'partywall.enter of closed tenants', 'no tenant is suspended, cancelled or placed elsewhere'));
  return results;
}

/** The functions that admit, as the application may call them: with a seal each where the database is sealed, else with none too. */
function waysIn({ catalog, means }: SessionScene): ((tx: Transaction, tenant: string) => Promise<Probe>)[] {
  const has = (name: string): boolean => catalog.runtime?.functions.some((routine) => routine.name === name) ?? false;
  const byWord = [
    'partywall.enter($1)',
    ...(has('enter_since') ? ['partywall.enter_since($1, null)'] : []),
    ...(has('enter_unit') ? ['partywall.enter_unit($1, null, null)'] : []),
  ].map((call) => (tx: Transaction, tenant: string) => tx.keep(`select ${call.replace('$1', () => literal(tenant))}`));
  const bySeal = async (tx: Transaction, tenant: string): Promise<Probe> => {
    const { text, values } = await entering(means.admin, tenant);
    return tx.keep(text, values);
  };
  return [...(means.sealed ? [] : byWord), ...(has('enter_sealed') ? [bySeal] : [])];
}

async function readRegistry(tx: Transaction, { catalog, cast, model }: SessionScene): Promise<AttackResult> {
  await become(tx, cast.victim);
  const attempts = [];
  for (const relation of catalog.runtime?.relations ?? []) {
    const name = `partywall.${ident(relation.name)}`;
    attempts.push({ what: `SELECT from ${name}`, probe: await tx.probe(`select 1 from ${name} limit 1`), reached: () => 1 });
  }
  attempts.push(
    { what: 'UPDATE of the registry', probe: await tx.probe("update partywall.registry set state = 'active' where false"), reached: () => 1 },
    { what: 'a change of state', probe: await tx.probe(`select partywall.set_state(${literal(cast.victim)}, 'active')`), reached: () => 1 },
  );
  const result = verdict('escape.registry', 'schema partywall', attempts);
  return result.outcome === 'broken' ? { ...result, message: `${model.roles.app} got at the registry: ${result.message?.replace(/ reached .*/, '')}` } : result;
}
