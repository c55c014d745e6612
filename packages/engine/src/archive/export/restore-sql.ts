import { ident, identList } from '../../db/sql.ts';
import { partsOf } from '../../model/table-name.ts';
import type { SourceTable } from '../tenant-source.ts';
import { schemaNames } from './tenant-file.ts';

/** The statement before a table's rows. A name of the default schema is a variable of psql, so that the rows can go into another. */
export function copyStatement(table: Pick<SourceTable, 'name' | 'columns'>, schema: string): string {
  return `COPY ${target(table, schema)} (${identList(table.columns.map(({ name }) => name))}) FROM STDIN;\n`;
}

export interface RestoreScript {
  readonly tables: readonly { readonly table: SourceTable; readonly file: string }[];
  /** The default schema. */
  readonly schema: string;
  readonly hasSchema: boolean;
}

/** What `psql -f restore.sql` runs: all tables in one transaction, into tables that do not hold the tenant yet. */
export function restoreSql({ tables, schema, hasSchema }: RestoreScript): string {
  return `-- Restores the tenant of this folder into the tables that the connection names: psql -X -f restore.sql
-- Into another schema: psql -X -v schema=staging -f restore.sql
${hasSchema ? '-- Into an empty database, whose roles are there: psql -X -v with_schema=yes -f restore.sql\n' : ''}\\set ON_ERROR_STOP on
\\if :{?schema}
\\else
\\set schema '${schema.replaceAll('\\', '\\\\').replaceAll("'", "''").replaceAll('\n', '\\n')}'
\\endif
${hasSchema ? ifAsked(schemaNames.before) : ''}BEGIN;
SET LOCAL client_encoding = 'UTF8';
SET LOCAL standard_conforming_strings = on;
SET LOCAL DateStyle = 'ISO, YMD';
SET LOCAL IntervalStyle = 'postgres';
SET LOCAL TimeZone = 'UTC';
-- An error where a policy would bind this role, instead of rows that are left out.
SET LOCAL row_security = off;
SET CONSTRAINTS ALL DEFERRED;
${tables.map(({ file }) => `\\ir ${file}`).join('\n')}
${tables.flatMap(({ table }) => raises(table, schema)).join('\n')}
COMMIT;
${hasSchema ? ifAsked(schemaNames.after) : ''}`;
}

function ifAsked(file: string): string {
  return `\\if :{?with_schema}\n\\ir ${file}\n\\endif\n`;
}

function target({ name }: Pick<SourceTable, 'name'>, schema: string): string {
  const parts = partsOf(name);
  return `${parts.schema === schema ? ':"schema"' : ident(parts.schema)}.${ident(parts.name)}`;
}

/** Rows that bring their numbers do not advance the sequences behind them; a sequence that is further is left. */
function raises(table: SourceTable, schema: string): string[] {
  const parts = partsOf(table.name);
  return table.columns
    .filter(({ type }) => /^(smallint|integer|bigint)$/.test(type))
    .map(({ name }) => {
      const relation = parts.schema === schema ? `:'schema'` : quotedText(parts.schema);
      const where = `pg_catalog.pg_get_serial_sequence(pg_catalog.format('%I.%I', ${relation}, ${quotedText(parts.name)}), ${quotedText(name)})`;
      return `SELECT pg_catalog.setval(s.name, greatest(m.top, pg_catalog.pg_sequence_last_value(s.name::pg_catalog.regclass))) AS sequence
FROM (SELECT ${where} AS name) s, (SELECT pg_catalog.max(${ident(name)}) AS top FROM ${target(table, schema)}) m WHERE s.name IS NOT NULL AND m.top > 0;`;
    });
}

function quotedText(text: string): string {
  return `E'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`;
}
