import { connect } from '@partywall/engine';
import { createDatabase, type TestDatabase } from '../../../../test/support/database.ts';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { readCatalog } from '../../src/catalog/read-catalog.ts';
import { ident } from '../../src/db/sql.ts';
import { type InferOptions, type InferredModel, inferModel } from '../../src/model/infer.ts';
import type { TableRule } from '../../src/model/model.ts';
import { parseTableName, type TableName } from '../../src/model/table-name.ts';

/** A database whose schemas are made anew for each case. */
export interface Inferring {
  readonly database: TestDatabase;
  /** Empties the database, runs the statements and reads the catalog. */
  catalog(sql: string): Promise<Catalog>;
  /** The catalog as it is now. */
  read(): Promise<Catalog>;
  model(sql: string, options?: InferOptions): Promise<InferredModel>;
}

export async function inferring(): Promise<Inferring> {
  const database = await createDatabase();
  const read = async () => {
    const client = await connect(database.url, { purpose: 'test' });
    try {
      return await readCatalog(client);
    } finally {
      await client.end();
    }
  };
  const catalog = async (sql: string) => {
    const { rows } = await database.query<{ name: string }>(
      "select nspname as name from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema'",
    );
    for (const { name } of rows) await database.query(`drop schema ${ident(name)} cascade`);
    await database.query('create schema public');
    await database.query(sql);
    return read();
  };
  return { database, catalog, read, model: async (sql, options) => inferModel(await catalog(sql), options) };
}

/** The table of that name; a test's own typing error is not a case. */
export function named(text: string): TableName {
  const table = parseTableName(text);
  if (!table) throw new Error(`not a table name: ${text}`);
  return table;
}

export function ruleOf(inferred: InferredModel, table: string): TableRule {
  const rule = inferred.model.tables.get(named(table));
  if (!rule) throw new Error(`the model has no ${table}, only ${[...inferred.model.tables.keys()].join(', ')}`);
  return rule;
}

/** `scoped by tenant_id`, `scoped through public.customers(customer_id)`, `shared`, `platform write`: a rule in a line. */
export function told(inferred: InferredModel, table: string): string {
  const rule = ruleOf(inferred, table);
  switch (rule.scope) {
    case 'scoped': {
      const ways = rule.paths.map(
        ({ table: parent, columns, references }) => `${parent}(${columns.join(',')}${references.join() === 'id' ? '' : ` = ${references.join(',')}`})`,
      );
      return rule.added ? `scoped through ${ways.join(', ') || 'nothing'}` : `scoped by ${rule.column}`;
    }
    case 'platform':
      return `platform ${rule.access}`;
    case 'shared':
    case 'unclassified':
      return rule.scope;
  }
}
