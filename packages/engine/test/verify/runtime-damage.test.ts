import pg from 'pg';
import { beforeAll, expect, it } from 'vitest';
import { createDatabase } from '../../../../test/support/database.ts';
import { readCatalog } from '../../src/catalog/read-catalog.ts';
import { verify } from '../../src/verify/verify.ts';
import { applyWall } from '../../src/wall/apply.ts';
import { runtimeSql } from '../../src/wall/runtime.ts';
import { runtimeDamage } from '../../src/wall/runtime-damage.ts';
import { wantedWall } from '../../src/wall/shape.ts';
import { createSoundDatabase, type SoundDatabase } from './sound-database.ts';

let sound: SoundDatabase;
beforeAll(async () => {
  sound = await createSoundDatabase();
});

async function findings(): Promise<{ rule: string; target: string; evidence?: string }[]> {
  const report = await verify({ model: sound.model, adminUrl: sound.database.url, staticOnly: true });
  return report.findings.map(({ rule, target, evidence }) => ({ rule, target, ...(evidence !== undefined && { evidence }) }));
}

async function apply(phase: 'expand' | 'contract'): Promise<readonly string[]> {
  return (await applyWall({ url: sound.database.url, model: sound.model, phase, skipGate: true })).applied;
}

it('is made good by apply wherever apply can, and then plans to nothing', async () => {
  const app = sound.model.roles.app;
  await sound.database.query(`alter function partywall.tenant_id() immutable;
    drop function partywall.blocked_sources(text[]);
    drop function partywall.make_seal(text, text);
    create or replace function partywall.state_changed() returns trigger language plpgsql as 'begin return new; end';
    drop table partywall.messages;
    alter table partywall.registry disable trigger state_changed;
    drop trigger forget_job_visits on partywall.registry;
    alter table tenants enable replica trigger partywall_register;
    drop trigger partywall_register_truncate on tenants;
    alter event trigger partywall_new_tables enable replica;
    alter function partywall.new_tables() security invoker;
    alter default privileges grant execute on functions to ${app};
    alter default privileges in schema partywall grant execute on functions to ${app}`);
  expect((await findings()).map(({ rule }) => rule).sort()).toEqual([
    'coverage.event-trigger',
    'privilege.default',
    'privilege.default',
    'runtime.function-changed',
    'runtime.function-changed',
    'runtime.function-changed',
    'runtime.function-changed',
    'runtime.function-changed',
    'runtime.relation-changed',
    'runtime.trigger',
    'runtime.trigger',
    'runtime.trigger',
    'runtime.trigger',
    'trigger.disabled',
  ]);
  expect(await apply('expand')).toContain('expand/runtime');
  expect(await apply('contract')).toContain('contract/new-tables');
  expect(await findings()).toEqual([]);
  expect([...(await apply('expand')), ...(await apply('contract'))]).toEqual([]);
});

it('is found after apply where only a person can make it good, and apply ends', async () => {
  await sound.database.query('alter table partywall.registry enable row level security; alter function partywall.tenant_id() volatile');
  try {
    expect(await apply('expand')).toEqual(['expand/runtime']);
    expect((await findings()).map(({ rule, target }) => `${rule} ${target}`)).toEqual(['runtime.relation-changed partywall.registry']);
  } finally {
    await sound.database.query('alter table partywall.registry disable row level security');
  }
  expect(await findings()).toEqual([]);
});

it('is told from what another version installed, which apply brings up to date', async () => {
  await sound.database.query(`update partywall.facts set value = '"of another version"' where name = 'runtime';
    alter function partywall.enter(text, text) rename to enter_of_old; drop table partywall.messages`);
  const evidence = expect.stringMatching(/another version.*`partywall apply --phase expand`/);
  const found = await findings();
  expect(found).toContainEqual({ rule: 'runtime.function-changed', target: 'function partywall.enter(text, text)', evidence });
  expect(found).toContainEqual({ rule: 'runtime.function-unknown', target: 'function partywall.enter_of_old(tenant text, unit text)', evidence });
  expect(found).toContainEqual({ rule: 'runtime.relation-changed', target: 'partywall.messages', evidence });
  await apply('expand');
  await sound.database.query('drop function partywall.enter_of_old(text, text)');
  expect(await findings()).toEqual([]);
});

const keys: readonly [keyType: string, unitType: string | undefined][] = [
  ['uuid', undefined],
  ['uuid', 'uuid'],
  ['bigint', 'integer'],
  ['integer', undefined],
  ['smallint', 'text'],
  ['text', undefined],
  ['text', 'bigint'],
];
const forms = keys.flatMap(([keyType, unitType]) => [true, false].map((isProtected) => ({ keyType, unitType, isProtected })));

it('is none in what was just installed, whatever the types of keys and wherever the context is kept', async () => {
  const { url } = await createDatabase();
  const client = new pg.Client(url);
  await client.connect();
  try {
    for (const context of forms) {
      await client.query(runtimeSql(context).join(';\n'));
      const catalog = await readCatalog(client);
      const damage = runtimeDamage(catalog, { model: sound.model, wanted: wantedWall(sound.model, catalog), context });
      const damaged = damage.filter(({ how }) => how[0] !== 'it is missing');
      expect(damaged, JSON.stringify(context)).toEqual([]);
      expect(damage.map(({ target }) => target)).not.toContain('function partywall.tenant_id()');
      expect(catalog.runtime?.functions.length).toBeGreaterThan(20);
      await client.query('drop schema partywall cascade');
    }
  } finally {
    await client.end();
  }
});
