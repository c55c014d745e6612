import { PartywallError } from '../../errors.ts';
import { tenantSubject } from '../../keyring/data-keys.ts';
import { parseTableName } from '../../model/table-name.ts';
import type { Archive } from '../archive.ts';
import type { SourceTable, TenantSource } from '../tenant-source.ts';
import { type Backup, refOf, whyNot } from './open-backup.ts';

/** Statements that make the schema, as the platform's content of this name. */
export const schemaTable = 'partywall:schema';

/** Whether the backup holds the tenant's rows as PostgreSQL had them. One of a SQLite file is a copy of something else: whoever means it says its id. */
export function holdsTenant(archive: Pick<Archive, 'keys'>, tenant: string): (backup: Backup) => boolean {
  const found = archive.keys.subjects().find(({ subject }) => subject === tenantSubject(tenant));
  return ({ manifest: { classes, source }, subjects }) =>
    found !== undefined && subjects.has(found.ref) && classes.includes('database') && source.engine === 'postgresql';
}

/**
 * One tenant's rows as a backup has them.
 *
 * @throws PartywallError key_missing (erased, or another keyring), backup_unknown (the backup holds nothing of the tenant), restore_refused (it holds
 * other data classes: its tables would be taken for empty ones), archive_damaged
 */
export async function backupSource(archive: Archive, backup: Backup, tenant: string): Promise<TenantSource> {
  const ref = refOf(archive, tenantSubject(tenant));
  const { manifest } = backup;
  if (!backup.subjects.has(ref))
    throw new PartywallError('backup_unknown', `looking for tenant ${tenant.slice(0, 100)} in backup ${manifest.id}: ${whyNot(backup, ref)}`);
  if (!manifest.classes.includes('database')) {
    throw new PartywallError(
      'restore_refused',
      `looking for tenant ${tenant.slice(0, 100)} in backup ${manifest.id}: it holds ${manifest.classes.join(', ')} only`,
    );
  }
  const page = await backup.page(ref);
  const stored = new Map(page.tables.map((table) => [table.table, table]));
  const tables = manifest.tables.flatMap((table): SourceTable[] => {
    if (table.class !== 'database' || table.kind !== 'rows' || table.tenantColumn === null) return [];
    const name = parseTableName(table.name);
    if (!name) throw new PartywallError('archive_damaged', `reading backup ${manifest.id}: not a table name: ${JSON.stringify(table.name)}`);
    return [{ name, columns: table.columns, key: table.key, tenantColumn: table.tenantColumn, count: stored.get(table.name)?.rows ?? 0 }];
  });
  return {
    tenant,
    at: new Date(manifest.at),
    description: `backup ${manifest.id}`,
    tables,
    schema: manifest.tables.some(({ name }) => name === schemaTable) ? () => readSchema(archive, backup) : undefined,
    rows: ({ name }) => backup.segments(ref, name, stored.get(name)?.segments ?? []),
  };
}

/** The statements that make the schema as it was. @throws PartywallError restore_refused where the backup has none */
export async function readSchema(archive: Archive, backup: Backup): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of backup.content(refOf(archive, 'platform'), schemaTable)) pieces.push(piece);
  if (pieces.length > 0) return Buffer.concat(pieces).toString('utf8');
  throw new PartywallError('restore_refused', `reading the schema of backup ${backup.manifest.id}: it holds none`);
}
