import { beforeAll, describe, expect, test } from 'vitest';
import type { TestDatabase } from '../../../../test/support/database.ts';
import { type Catalog, columnOf, type Relation } from '../../src/catalog/catalog.ts';
import { readCatalog } from '../../src/catalog/read-catalog.ts';
import { sqlState } from '../../src/db/connect.ts';
import { ident } from '../../src/db/sql.ts';
import type { TenancyModel } from '../../src/model/model.ts';
import { quoted, tableName } from '../../src/model/table-name.ts';
import { hasLeadingIndex, wantedWall } from '../../src/wall/shape.ts';
import { onDatabase, type Roles, walledFixture, withCatalogClient } from './databases.ts';
import { type KeyKind, keyKinds, longName, oddName, usingName } from './fixture.ts';

describe.each(Object.entries(keyKinds))('a wall over tenants with a key of type %s', (_, key: KeyKind) => {
  let database: TestDatabase;
  let model: TenancyModel;
  let roles: Roles;
  let catalog: Catalog;
  let walled: { relation: Relation; column: string }[];
  beforeAll(async () => {
    ({ database, model, roles } = await walledFixture(key));
    catalog = await withCatalogClient(database.url, readCatalog);
    walled = [...wantedWall(model, catalog).tables.values()].flatMap(({ relation, column, rule }) => (rule ? [{ relation, column }] : []));
  });

  test('every row has a tenant that exists, by NOT NULL and by reference', () => {
    expect(walled.length).toBeGreaterThan(30);
    for (const { relation, column } of walled) {
      expect(columnOf(relation, column)?.notNull, relation.table).toBe(true);
      const roots = relation.constraints.filter(({ foreign, columns }) => foreign?.table === 'public.tenants' && columns.join() === column);
      expect(roots, relation.table).toEqual([expect.objectContaining({ validated: true })]);
    }
  });

  test('every table has a key with the tenant for its primary key, and an index that leads with it', () => {
    for (const { relation, column } of walled) {
      expect(hasLeadingIndex(relation, column), relation.table).toBe(true);
      const primary = relation.constraints.find(({ kind }) => kind === 'primary')?.columns ?? [];
      const wanted = new Set([column, ...primary]);
      const keys = relation.indexes.filter(
        ({ unique, valid, predicate, columns }) => unique && valid && !predicate && columns.every((name) => wanted.has(name ?? '')),
      );
      if (primary.length > 0)
        expect(
          keys.some(({ columns }) => columns.length === wanted.size),
          relation.table,
        ).toBe(true);
    }
  });

  test('every reference between scoped tables carries the tenant, is proven, and never sets it', () => {
    const scoped = new Map(walled.map(({ relation, column }) => [relation.table, column]));
    const references = walled.flatMap(({ relation, column }) =>
      relation.constraints.flatMap((constraint) => {
        const target = constraint.foreign && scoped.get(constraint.foreign.table);
        return constraint.foreign && target ? [{ constraint, column, target, foreign: constraint.foreign }] : [];
      }),
    );
    expect(references.length).toBeGreaterThan(25);
    for (const { constraint, column, target, foreign } of references) {
      expect(constraint.validated, constraint.definition).toBe(true);
      expect(foreign.columns[constraint.columns.indexOf(column)], constraint.definition).toBe(target);
      const sets = foreign.onDelete === 'set null' || foreign.onDelete === 'set default';
      if (sets) expect(foreign.setColumns.length > 0 && !foreign.setColumns.includes(column), constraint.definition).toBe(true);
      expect(foreign.onUpdate).not.toMatch(/^set/);
    }
  });

  test('row level security is forced on every table and the root, by one policy', () => {
    const root = catalog.relations.get(tableName('public', 'tenants'));
    for (const relation of [...walled.map(({ relation }) => relation), ...(root ? [root] : [])]) {
      expect([relation.rls, relation.rlsForced], relation.table).toEqual([true, true]);
      expect(
        relation.policies.map(({ name, command, roles: to }) => [name, command, to]),
        relation.table,
      ).toEqual([[expect.stringMatching(/^partywall_[0-9a-f]{12}$/), 'all', ['public']]]);
    }
  });

  test('inside a tenant the application reads exactly the rows of that tenant, everywhere, and outside nothing', async () => {
    const tables = walled.filter(({ relation }) => relation.parents.length === 0);
    await onDatabase(database.urlAs(roles.app), async (client) => {
      for (const { relation, column } of tables) {
        const all = await database.query<{ tenant: string; rows: string }>(
          `select ${ident(column)}::text as tenant, count(*) as rows from ${quoted(relation.table)} group by 1`,
        );
        const counts = new Map(all.rows.map(({ tenant, rows }) => [tenant, rows]));
        for (const id of key.ids) {
          await client.query('begin');
          await client.query('select partywall.enter($1)', [id]);
          const { rows } = await client.query(
            `select count(*) as rows, count(*) filter (where ${ident(column)}::text <> $1) as strange from ${quoted(relation.table)}`,
            [id],
          );
          expect(rows, relation.table).toEqual([{ rows: counts.get(id) ?? '0', strange: '0' }]);
          await client.query('commit');
        }
        // The policy is asked for a row, so a table without any answers with none.
        const outside = client.query(`select from ${quoted(relation.table)}`).then(
          ({ rowCount }) => rowCount,
          (error: unknown) => sqlState(error),
        );
        expect(await outside, relation.table).toBe(counts.size > 0 ? 'PW001' : 0);
      }
    });
  });

  test('rows that the application writes without knowing the column belong to the tenant it is in', async () => {
    const [a, b] = key.ids;
    await onDatabase(database.urlAs(roles.app), async (client) => {
      await client.query('begin');
      await client.query('select partywall.enter($1)', [b]);
      const { rows: contacts } = await client.query("insert into contacts (customer_id, name) values (3, 'new') returning id, tenant_id::text");
      expect(contacts).toEqual([{ id: expect.any(Number), tenant_id: b }]);
      const { rows: settings } = await client.query("insert into settings (colour) values ('green') returning id");
      await client.query('insert into orders (customer_id, settings_id) values (4, $1)', [settings[0]?.id]);
      await client.query("insert into events (at, kind, customer_id, seq) values ('2025-05-05', 'q', 3, 9)");
      await client.query(`insert into ${ident(oddName)} values (9, $1, 'n')`, [contacts[0]?.id]);
      await client.query('savepoint refused');
      // Customer 1 belongs to the other tenant; the key that was plain would have said yes.
      await expect(client.query("insert into contacts (customer_id, name) values (1, 'crossing')")).rejects.toMatchObject({
        code: '23503',
        constraint: 'contacts_customer_id_fkey',
      });
      await client.query('rollback to savepoint refused');
      await expect(client.query('update contacts set tenant_id = $1', [a])).rejects.toMatchObject({ code: '42501' });
      await client.query('rollback');
    });
  });
});

describe('what takes the place of the keys, uniques and views of the fixture', () => {
  let catalog: Catalog;
  let definition: (schema: string, table: string, constraint: string) => string | undefined;
  let indexOf: (table: string, name: string) => string | undefined;
  let database: TestDatabase;
  let roles: Roles;
  beforeAll(async () => {
    ({ database, roles } = await walledFixture());
    catalog = await withCatalogClient(database.url, readCatalog);
    definition = (schema, table, name) =>
      catalog.relations.get(tableName(schema, table))?.constraints.find((constraint) => constraint.name === name)?.definition;
    indexOf = (table, name) => catalog.relations.get(tableName('public', table))?.indexes.find((index) => index.name === name)?.definition;
  });

  test('composite keys keep their names, actions and deferral', () => {
    expect({
      child: definition('public', 'contacts', 'contacts_customer_id_fkey'),
      self: definition('public', 'users', 'users_manager_id_fkey'),
      root: definition('public', 'tenants', 'tenants_owner_id_fkey'),
      otherKey: definition('public', 'invoices', 'invoices_customer_code_fkey'),
      setDefault: definition('public', 'invoices', 'invoices_payer_id_fkey'),
      cycle: [definition('public', 'hens', 'hens_egg_id_fkey'), definition('public', 'eggs', 'eggs_hen_id_fkey')],
      withTenant: definition('public', 'pages', 'pages_doc_fkey'),
      reverse: definition('public', 'orders', 'orders_settings_id_fkey'),
      toPartitioned: definition('public', 'event_notes', 'event_notes_event_id_event_at_event_kind_fkey'),
      fromPartition: definition('public', 'events_2025_rest', 'events_customer_id_fkey'),
      fromChild: definition('public', 'cars', 'cars_customer_id_fkey'),
      manyToMany: definition('public', 'customer_tags', 'customer_tags_tag_id_fkey'),
      odd: definition('public', oddName, `c"on $$ '`),
      long: definition('public', longName, longName),
      shared: definition('public', 'customers', 'customers_country_fkey'),
    }).toEqual({
      child: 'FOREIGN KEY (tenant_id, customer_id) REFERENCES public.customers(tenant_id, id) ON UPDATE CASCADE ON DELETE CASCADE',
      self: 'FOREIGN KEY (tenant_id, manager_id) REFERENCES public.users(tenant_id, id) ON DELETE SET NULL (manager_id)',
      root: 'FOREIGN KEY (id, owner_id) REFERENCES public.users(tenant_id, id) ON DELETE SET NULL (owner_id) DEFERRABLE INITIALLY DEFERRED',
      otherKey: 'FOREIGN KEY (tenant_id, customer_code) REFERENCES public.customers(tenant_id, code) ON UPDATE CASCADE',
      setDefault: 'FOREIGN KEY (tenant_id, payer_id) REFERENCES public.customers(tenant_id, id) ON DELETE SET DEFAULT (payer_id)',
      cycle: [
        'FOREIGN KEY (tenant_id, egg_id) REFERENCES public.eggs(tenant_id, id) DEFERRABLE',
        'FOREIGN KEY (tenant_id, hen_id) REFERENCES public.hens(tenant_id, id) DEFERRABLE INITIALLY DEFERRED',
      ],
      withTenant: 'FOREIGN KEY (doc_no, tenant_id) REFERENCES public.docs(no, tenant_id) ON DELETE SET NULL (doc_no)',
      reverse: 'FOREIGN KEY (tenant_id, settings_id) REFERENCES public.settings(tenant_id, id)',
      toPartitioned: 'FOREIGN KEY (tenant_id, event_id, event_at, event_kind) REFERENCES public.events(tenant_id, id, at, kind) ON DELETE CASCADE',
      fromPartition: 'FOREIGN KEY (tenant_id, customer_id) REFERENCES public.customers(tenant_id, id) ON DELETE CASCADE',
      fromChild: 'FOREIGN KEY (tenant_id, customer_id) REFERENCES public.customers(tenant_id, id)',
      manyToMany: 'FOREIGN KEY (tenant_id, tag_id) REFERENCES public.tags(tenant_id, id) ON DELETE CASCADE',
      odd: `FOREIGN KEY ("t""enant $$ '", "fk $$ '") REFERENCES public.contacts(tenant_id, id)`,
      long: `FOREIGN KEY ("${longName.slice(1)}", "${longName}") REFERENCES public.contacts(tenant_id, id)`,
      shared: 'FOREIGN KEY (country) REFERENCES public.countries(code)',
    });
  });

  test('uniques are per tenant where the model says so, with all their trimmings, and constraints stay constraints', () => {
    const tail = (text: string | undefined) => text?.slice(text.indexOf(' ON ') + 4);
    expect({
      code: definition('public', 'customers', 'customers_code_key'),
      nulls: definition('public', 'customers', 'customers_phone_key'),
      deferrable: definition('public', 'users', 'users_seat_key'),
      global: definition('public', 'users', 'users_email_key'),
      partial: tail(indexOf('customers', 'customers_vat_active')),
      expression: tail(indexOf('customers', 'customers_lower_name')),
      partitioned: tail(indexOf('events', 'events_seq')),
      partitionedConstraint: tail(indexOf('days', 'days_once')),
      using: tail(indexOf(usingName, 'i USING (z')),
      long: tail(indexOf(longName, longName.slice(1))),
    }).toEqual({
      code: 'UNIQUE (tenant_id, code)',
      nulls: 'UNIQUE NULLS NOT DISTINCT (tenant_id, phone, name)',
      deferrable: 'UNIQUE (tenant_id, seat) DEFERRABLE INITIALLY DEFERRED',
      global: 'UNIQUE (email)',
      partial: 'public.customers USING btree (tenant_id, vat) INCLUDE (name) WHERE (NOT archived)',
      expression: 'public.customers USING btree (tenant_id, lower(name) text_pattern_ops DESC NULLS LAST)',
      partitioned: 'ONLY public.events USING btree (tenant_id, seq, at, kind)',
      partitionedConstraint: 'ONLY public.days USING btree (tenant_id, day, customer_id)',
      using: `public."${usingName}" USING btree (tenant_id, "x USING (y") WHERE ("x USING (y" <> ' USING ('::text)`,
      long: `public."${longName}" USING btree ("${longName.slice(1)}", u)`,
    });
  });

  test('one index serves a key and a unique that are the same', () => {
    const customers = catalog.relations.get(tableName('public', 'customers'));
    const sets = customers?.indexes.filter(({ unique, predicate }) => unique && !predicate).map(({ columns }) => [...columns].sort().join());
    expect(new Set(sets).size).toBe(sets?.length);
  });

  test('views over scoped rows run as their caller, others are left alone', () => {
    const options = (schema: string, name: string) => catalog.relations.get(tableName(schema, name))?.options;
    expect(options('public', 'customer_list')).toEqual(['security_invoker=true']);
    expect(options('public', 'busy_customers')).toEqual(['security_barrier=true', 'security_invoker=true']);
    expect(options('select', 'view')).toEqual(['security_invoker=true']);
    expect(options('public', 'country_list')).toEqual([]);
  });

  test('a view over a view shows one tenant its own rows', async () => {
    await onDatabase(database.urlAs(roles.app), async (client) => {
      await client.query('begin');
      await client.query('select partywall.enter($1)', [keyKinds.uuid.ids[1]]);
      expect((await client.query('select name from busy_customers order by 1')).rows).toEqual([{ name: 'Beth' }, { name: 'Bravo' }]);
      expect((await client.query('select "row" from "select"."view"')).rows).toEqual([{ row: 'r2' }]);
      await client.query('commit');
    });
  });

  test('contract leaves no helper of expand behind', () => {
    const functions = catalog.runtime?.functions.map(({ name }) => name).filter((name) => name.startsWith('pw_'));
    const triggers = [...catalog.relations.values()].flatMap((relation) => relation.triggers.map(({ name }) => name));
    expect(functions).toEqual([]);
    expect(triggers.filter((name) => !name.startsWith('partywall_register'))).toEqual(['touch_contact', 'touch_note']);
    const constraints = [...catalog.relations.values()].flatMap((relation) => relation.constraints.map(({ name }) => name));
    expect(constraints.filter((name) => /^pw_(fk|check)_/.test(name))).toEqual([]);
  });
});
