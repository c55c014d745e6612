import { expect } from 'vitest';
import { copyOut } from '../../../src/archive/backup/reading/copy-rows.ts';
import { type Backup, openBackup } from '../../../src/archive/read/open-backup.ts';
import { connect } from '../../../src/db/connect.ts';
import { ident, literal } from '../../../src/db/sql.ts';
import { type OpenArchive, quoted } from '../../../src/index.ts';
import { tenantSubject } from '../../../src/keyring/data-keys.ts';
import { parseTableName } from '../../../src/model/table-name.ts';

/** Rows of a tenant, or of the platform, as a backup holds them: lines in the order of their bytes. */
export async function storedRows(archive: OpenArchive, id: string, of: { readonly tenant: string | null; readonly table: string }): Promise<string[]> {
  const backup = await openBackup(archive, id);
  const subject = of.tenant === null ? 'platform' : tenantSubject(of.tenant);
  const ref = archive.keys.subjects().find((each) => each.subject === subject)?.ref ?? '';
  const pieces: Buffer[] = [];
  for await (const piece of backup.content(ref, of.table)) pieces.push(piece);
  return lines(Buffer.concat(pieces));
}

/** Rows of a live table as COPY writes them, in the columns that the backup names. */
export async function liveRows(url: string, backup: Backup, of: { readonly tenant: string | null; readonly table: string }): Promise<string[]> {
  const table = backup.manifest.tables.find(({ name }) => name === of.table);
  const name = parseTableName(of.table);
  if (!table || !name) throw new Error(`the backup has no ${of.table}`);
  const columns = table.columns.map((column) => `t.${ident(column.name)}`).join(', ');
  const condition = of.tenant === null || table.tenantColumn === null ? '' : ` where t.${ident(table.tenantColumn)} = ${literal(of.tenant)}`;
  return copied(url, `select ${columns} from ${quoted(name)} t${condition}`);
}

export async function copied(url: string, query: string): Promise<string[]> {
  const client = await connect(url, { purpose: 'test' });
  try {
    await client.query("set TimeZone = 'UTC'; set extra_float_digits = 1; set IntervalStyle = 'postgres'; set bytea_output = 'hex'");
    const rows: Buffer[] = [];
    await copyOut(client, `copy (${query}) to stdout`, (bytes, start, end) => rows.push(Buffer.from(bytes.subarray(start, end))));
    return lines(Buffer.concat(rows));
  } finally {
    await client.end();
  }
}

function lines(bytes: Buffer): string[] {
  return bytes.toString('utf8').split('\n').slice(0, -1).sort();
}

/** Every tenant's rows of every table of class `database` are those of the live tables. */
export async function expectSame(
  archive: OpenArchive,
  id: string,
  { url, tenants }: { readonly url: string; readonly tenants: readonly string[] },
): Promise<void> {
  const backup = await openBackup(archive, id);
  for (const { name: table, tenantColumn, class: dataClass, kind } of backup.manifest.tables) {
    if (dataClass !== 'database' || kind !== 'rows') continue;
    for (const tenant of tenantColumn === null ? [null] : tenants) {
      expect(await storedRows(archive, id, { tenant, table }), `${table} of ${tenant}`).toEqual(await liveRows(url, backup, { tenant, table }));
    }
  }
}
