import type pg from 'pg';
import { sqlState } from '../../db/connect.ts';
import { PartywallError } from '../../errors.ts';
import type { SchemaDdl, SchemaItem } from './schema-document.ts';

export interface RunOptions {
  readonly signal?: AbortSignal | undefined;
  /** Called after each item. */
  readonly onProgress?: ((done: number, of: number) => void) | undefined;
  /** Called inside the transaction of an item, so that what has been made is remembered with it. */
  readonly remember?: ((item: SchemaItem) => Promise<void>) | undefined;
  /** Told of a materialised view that could not be filled, which is then left empty. Without it that is an error like the rest. */
  readonly onUnfilled?: ((item: SchemaItem, why: string) => void) | undefined;
  /** Ids of items that are made already. */
  readonly made?: ReadonlySet<string> | undefined;
}

/** A function that finds nothing by its short names under the empty search path; it may find it in `public`, where databases begin. */
const nameless: ReadonlySet<string | undefined> = new Set(['42883', '42P01', '42704', '3F000']);

/**
 * Makes what a phase of a schema makes, each item in a transaction of its own.
 *
 * @param client a superuser, or a member of every owner who may look past policies; not inside a transaction
 * @throws PartywallError restore_refused, naming the item
 */
export async function runSchema(client: pg.ClientBase, schema: SchemaDdl, phase: SchemaItem['phase'], options: RunOptions = {}): Promise<void> {
  const items = schema.items.filter((each) => each.phase === phase);
  for (const [at, item] of items.entries()) {
    options.signal?.throwIfAborted();
    if (!options.made?.has(item.id)) {
      await runItem(client, item, options).catch((error: unknown) => {
        if (item.kind !== 'refresh' || !options.onUnfilled || sqlState(error instanceof Error ? error.cause : undefined) === undefined) throw error;
        options.onUnfilled(item, error instanceof Error ? error.message : String(error));
      });
    }
    options.onProgress?.(at + 1, items.length);
  }
}

async function runItem(client: pg.ClientBase, item: SchemaItem, options: RunOptions): Promise<void> {
  try {
    await attempt(client, item, { searchPath: '' }, options);
  } catch (error) {
    if (!nameless.has(sqlState(error))) throw refused(item, error);
    await attempt(client, item, { searchPath: 'public' }, options).catch(() => {
      throw refused(item, error);
    });
  }
}

async function attempt(client: pg.ClientBase, item: SchemaItem, { searchPath }: { searchPath: string }, { remember }: RunOptions): Promise<void> {
  try {
    await client.query(
      `begin isolation level read committed;
set local check_function_bodies = off; set local client_min_messages = warning; set local row_security = off; set local statement_timeout = 0;
select pg_catalog.set_config('search_path', '${searchPath}', true)`,
    );
    for (const statement of item.statements) await client.query(statement);
    await remember?.(item);
    await client.query('commit');
  } catch (error) {
    await client.query('rollback');
    throw error;
  }
}

function refused(item: SchemaItem, cause: unknown): PartywallError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new PartywallError('restore_refused', `making ${item.id}: ${why}`, { cause });
}
