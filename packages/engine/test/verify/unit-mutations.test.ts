import pg from 'pg';
import { beforeAll, describe, expect, inject, it } from 'vitest';
import { suffix } from '../../../../test/support/database.ts';
import { ident } from '../../src/db/sql.ts';
import { changeSeal } from '../../src/seal/change-seal.ts';
import { rules } from '../../src/verify/rules/rules.ts';
import type { unitAttackRules, unitRules } from '../../src/verify/rules/unit-rules.ts';
import { verify } from '../../src/verify/verify.ts';
import { runtimeSql } from '../../src/wall/runtime.ts';
import { createUnitDatabase, tenantA, type UnitDatabase, units } from '../wall/unit-database.ts';

/**
 * Each rule about units, proven by breaking a copy of a sound database in one way. The findings are compared whole, those of the catalog with those
 * of attacks and data: what is broken is found, and nothing else is.
 */
interface Mutation {
  readonly name: string;
  readonly break: readonly string[];
  /** Every finding: `rule target`. */
  readonly finds: readonly string[];
}

/** Name of a table's policy, by its command: `*` all, `w` update, `d` delete. */
const named = (table: string, command: string) =>
  `(select polname from pg_policy where polrelid = '${table}'::regclass and polcmd = '${command}' and polname like 'partywall_unit_%')`;
const dynamic = (statement: string, table: string, command = '*') =>
  `do $m$ begin execute format('${statement.replaceAll("'", "''")}', ${named(table, command)}); end $m$`;
const own = 'coalesce(business_unit_id = partywall.unit_id(), partywall.unit_id() is null)';

const mutations: Readonly<Record<keyof typeof unitRules | keyof typeof unitAttackRules | 'data.crossed', readonly Mutation[]>> = {
  'unit.no-policy': [
    {
      name: 'that the units are all seen in each',
      break: [dynamic('drop policy %I on business_units', 'business_units')],
      finds: [
        'unit.delete public.business_units',
        'unit.insert public.business_units',
        'unit.move public.business_units',
        'unit.no-policy public.business_units',
        'unit.read public.business_units',
        'unit.update public.business_units',
      ],
    },
    {
      name: 'that a policy of no unit’s rows is there for one command alone',
      break: [
        dynamic('drop policy %I on contracts', 'contracts'),
        'create policy narrow on contracts as restrictive for select using (coalesce(business_unit_id = partywall.unit_id(), true))',
      ],
      finds: ['unit.insert public.contracts', 'unit.no-policy public.contracts'],
    },
  ],
  'unit.changed-policy': [
    {
      name: 'a policy that holds for another role',
      break: [dynamic('alter policy %I on assets to $system', 'assets')],
      finds: [
        'unit.changed-policy policy "$assets" on public.assets',
        'unit.delete public.assets',
        'unit.insert public.assets',
        'unit.move public.assets',
        'unit.read public.assets',
        'unit.update public.assets',
      ],
    },
  ],
  'unit.no-key': [
    {
      name: 'a unit column that no key holds',
      break: ['alter table contracts drop constraint contracts_business_unit_id_fkey'],
      finds: ['unit.no-key public.contracts'],
    },
  ],
  'unit.read': [
    {
      name: 'rows of one unit that all others see',
      break: [dynamic(`alter policy %I on contracts using (coalesce(business_unit_id = partywall.unit_id(), true) or business_unit_id > 2)`, 'contracts')],
      finds: ['unit.changed-policy policy "$contracts" on public.contracts', 'unit.read public.contracts'],
    },
  ],
  'unit.update': [
    {
      name: 'rows of no unit that a unit changes',
      break: [dynamic('drop policy %I on contracts', 'contracts', 'w')],
      finds: ['unit.no-policy public.contracts', 'unit.update public.contracts'],
    },
  ],
  'unit.delete': [
    {
      name: 'rows of no unit that a unit deletes',
      break: [dynamic('drop policy %I on contracts', 'contracts', 'd')],
      finds: ['unit.delete public.contracts', 'unit.no-policy public.contracts'],
    },
  ],
  'unit.insert': [
    {
      name: 'a policy whose WITH CHECK takes rows of no unit',
      break: [
        dynamic('drop policy %I on contracts', 'contracts'),
        'create policy seen on contracts as restrictive for select using (coalesce(business_unit_id = partywall.unit_id(), true))',
        `create policy added on contracts as restrictive for insert with check (business_unit_id is null or ${own})`,
      ],
      finds: ['unit.insert public.contracts', 'unit.no-policy public.contracts'],
    },
  ],
  'unit.move': [
    {
      name: 'policies whose WITH CHECK asks nothing on updates',
      break: [
        dynamic('drop policy %I on contracts', 'contracts'),
        dynamic('drop policy %I on contracts', 'contracts', 'w'),
        'create policy seen on contracts as restrictive for select using (coalesce(business_unit_id = partywall.unit_id(), true) or true)',
        `create policy added on contracts as restrictive for insert with check (${own})`,
        `create policy changed on contracts as restrictive for update using (${own}) with check (true)`,
      ],
      finds: ['unit.move public.contracts', 'unit.no-policy public.contracts', 'unit.read public.contracts'],
    },
  ],
  'unit.garbage': [
    {
      name: 'an enter() that takes no notice of what it does not understand',
      break: [
        `create or replace function partywall.enter(tenant text, unit text default null) returns void language plpgsql volatile security definer as $f$ begin perform set_config('backtrace_functions', replace(tenant, '-', ''), true); end $f$`,
      ],
      finds: [
        'runtime.function-changed function partywall.enter(tenant text, unit text)',
        'escape.enter partywall.enter of a second tenant',
        'escape.enter partywall.enter of unknown tenants',
        'escape.shadow partywall.enter',
        'unit.garbage public.assets',
        'unit.garbage public.business_units',
        'unit.garbage public.contracts',
        'unit.garbage public.events',
      ],
    },
  ],
  'data.crossed': [
    {
      name: 'a row whose unit is another tenant’s',
      break: [
        'alter table contracts drop constraint contracts_business_unit_id_fkey',
        `update contracts set business_unit_id = ${units.b1} where tenant_id = '${tenantA}' and title = 'a'`,
      ],
      finds: ['data.crossed public.contracts (business_unit_id) → public.business_units', 'unit.no-key public.contracts'],
    },
  ],
};

let sound: UnitDatabase;
let cluster: pg.Client;
beforeAll(async () => {
  sound = await createUnitDatabase();
  cluster = new pg.Client(inject('clusterUrl'));
  await cluster.connect();
  // A template may have no sessions.
  await cluster.query('select pg_terminate_backend(pid) from pg_stat_activity where datname = $1', [sound.database.name]);
  return () => cluster.end();
});

/** A copy of the sound database, broken by `statements`, and what verify says of it. */
async function verified(statements: readonly string[], prepare: (admin: pg.Client) => Promise<void> = async () => {}) {
  const copy = `t_${suffix()}`;
  await cluster.query(`create database ${ident(copy)} template ${ident(sound.database.name)}`);
  const onCopy = (url: string): string => url.replace(sound.database.name, copy);
  const admin = new pg.Client(onCopy(sound.database.url));
  await admin.connect();
  try {
    const { rows } = await admin.query<{ table: string; name: string }>(
      "select polrelid::regclass::text as table, polname as name from pg_policy where polcmd = '*' and polname like 'partywall_unit_%'",
    );
    const names: Record<string, string> = {
      app: sound.model.roles.app,
      system: sound.model.roles.system,
      ...Object.fromEntries(rows.map(({ table, name }) => [table, name])),
    };
    const fill = (text: string) => text.replaceAll(/\$(app|system|assets|contracts)\b/g, (_all, name: string) => names[name] ?? '');
    for (const statement of statements) await admin.query(fill(statement));
    await prepare(admin);
    const report = await verify({ model: sound.model, adminUrl: onCopy(sound.database.url), appUrl: onCopy(sound.appUrl) });
    return { report, fill, found: report.findings.map((finding) => `${finding.rule} ${finding.target}`).sort() };
  } finally {
    await admin.end();
    await cluster.query(`drop database ${ident(copy)} with (force)`);
  }
}

const passedUnits = ({ checks }: Awaited<ReturnType<typeof verify>>) =>
  checks.filter(({ rule, kind }) => kind === 'attack' && rules.get(rule)?.surface === 'unit').map(({ outcome, targets }) => `${outcome} ${targets}`);
const everyAttackHeld = Array(6).fill('pass 4');

describe('a sound database', () => {
  it('is sound where it is sealed, and then no SQL of the application can name another unit', async () => {
    const { report, found } = await verified([], async (admin) => {
      for (const kind of ['rotate', 'on'] as const) await changeSeal(admin, sound.model, { kind }, { actor: { kind: 'operator', id: 'test' } });
    });
    expect(found).toEqual([]);
    expect(report.couldNotRun).toEqual([]);
    expect(passedUnits(report)).toEqual(everyAttackHeld);
    expect(report.residuals.map(({ id }) => id)).not.toContain('residual.unsealed-context');
  });

  it('is sound where the context cannot be protected', async () => {
    const { report, found } = await verified([], async (admin) => {
      for (const statement of runtimeSql({ keyType: 'uuid', unitType: 'integer', isProtected: false })) await admin.query(statement);
    });
    expect(found).toEqual([]);
    expect(report.couldNotRun).toEqual([]);
    expect(passedUnits(report)).toEqual(everyAttackHeld);
  });

  it('has no finding, and every attack on its units was made and held', async () => {
    const { report, found } = await verified([]);
    expect(found).toEqual([]);
    expect(report.couldNotRun).toEqual([]);
    expect(passedUnits(report)).toEqual(everyAttackHeld);
    expect(report.residuals.find(({ id }) => id === 'residual.rows-of-no-unit')?.targets).toEqual([
      'public.contracts (business_unit_id)',
      'public.events (unit_id)',
    ]);
    expect(report.residuals.find(({ id }) => id === 'residual.unsealed-context')?.message).toContain('another tenant or unit');
  });
});

const cases = Object.entries(mutations).flatMap(([rule, list]) => list.map((mutation) => ({ rule, mutation, title: mutation.name })));

it.each(cases)('$rule finds $title', async ({ rule, mutation }) => {
  const { report, fill, found } = await verified(mutation.break);
  expect(found).toEqual(mutation.finds.map(fill).sort());
  expect(report.couldNotRun).toEqual([]);
  expect(report.checks.find((check) => check.rule === rule)?.outcome).toBe('fail');
});
