import type pg from 'pg';

/** PostgreSQL's states for text that is no value of the key's type: no unit has such a key. */
const noSuchKey: ReadonlySet<string> = new Set(['22P02', '22003', '22021', '22007', '22008']);

export interface UnitTable {
  /** Default: `public`. */
  readonly schema?: string;
  readonly table: string;
  /** Default: `id`. */
  readonly key?: string;
}

/**
 * Whether a business unit is the tenant's: its row is there for the tenant of the context, as the wall shows it. For `unit.belongs` of the middlewares.
 *
 * @example unit: { belongs: unitIn(pool, { table: 'business_units' }) }
 */
export function unitIn(pool: Pick<pg.Pool, 'query'>, { schema = 'public', table, key = 'id' }: UnitTable): (unit: string) => Promise<boolean> {
  const text = `select from ${quoted(schema)}.${quoted(table)} where ${quoted(key)} = $1`;
  return async (unit) => {
    try {
      const { rowCount } = await pool.query(text, [unit]);
      return (rowCount ?? 0) > 0;
    } catch (error) {
      if (error instanceof Error && 'code' in error && typeof error.code === 'string' && noSuchKey.has(error.code)) return false;
      throw error;
    }
  };
}

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
