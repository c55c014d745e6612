import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import {
  awaitOperation,
  type Certificate,
  eraseTenant,
  eraseWorks,
  inProcess,
  type LongOperation,
  type OpenArchive,
  type Operation,
  openBackup,
  provisionTenant,
  readCertificate,
  tenantSubject,
} from '@partywall/engine';
import { expect } from 'vitest';
import type { ArchiveFixture } from '../../../../../test/support/archive.ts';
import type { ControlFixture } from '../../../../../test/support/control-database.ts';

/** A tenant with rows in every table and an admin of its own, `admin@<slug>.example`. */
export async function furnished({ database, operation }: ControlFixture, slug: string, customers = 30): Promise<string> {
  const { tenant } = await provisionTenant(operation(), {
    name: slug,
    contactEmail: `contact@${slug}.example`,
    adminName: 'Admin',
    adminEmail: `admin@${slug}.example`,
    hashPassword: async () => 'hash',
    plan: 'pro',
  });
  await database.query(
    `with c as (insert into customers (tenant_id, name, owner_id) select $1, $2 || ' customer ' || n, (select id from users where tenant_id = $1 limit 1)
  from generate_series(1, $3::integer) n returning id)
insert into notes (customer_id, body, partywall_tenant_id) select id, 'note', $1 from c`,
    [tenant.id, slug, customers],
  );
  await database.query("insert into files (tenant_id, name, size_bytes) values ($1, 'a', 5)", [tenant.id]);
  return tenant.id;
}

export interface Eraser {
  /** Erases to the end, in this process and this archive. */
  erase(tenant: string, more?: { readonly force?: boolean; readonly as?: Operation }): Promise<LongOperation>;
}

/** @param open opens the archive as the erasure is to see it */
export function eraser(fixture: ControlFixture, open: () => Promise<OpenArchive>): Eraser {
  return {
    erase: async (tenant, { force = true, as = fixture.operation() } = {}) => {
      const durable = inProcess(fixture.control, eraseWorks(open));
      const { id } = await eraseTenant(as, durable, { tenant, force });
      const ended = await awaitOperation(as, id, { timeoutMs: 60_000 });
      await durable.stop();
      return ended;
    },
  };
}

export type Backups = NonNullable<Certificate['body']['backups']>;

export async function certified(operation: Operation, tenant: string): Promise<Backups> {
  const { body } = await readCertificate(operation, tenant);
  expect(body.backups).toBeDefined();
  return body.backups as Backups; // expected above
}

/** Every row of every tenant but one, as one hash for each table. */
export async function rowsOfOthers({ database }: ControlFixture, tenant: string): Promise<unknown> {
  const columns = { tenants: 'id', users: 'tenant_id', customers: 'tenant_id', notes: 'partywall_tenant_id', files: 'tenant_id' };
  const found: Record<string, unknown> = {};
  for (const [table, column] of Object.entries(columns)) {
    const { rows } = await database.query(`select count(*), md5(string_agg(t::text, ',' order by t::text)) as hash from ${table} t where ${column} <> $1`, [
      tenant,
    ]);
    found[table] = rows[0];
  }
  return found;
}

/** What a backup holds of a subject, opened: a hash for each table, or the code of the error. */
export async function readable(archive: OpenArchive, backup: string, ref: string): Promise<Record<string, string>> {
  const opened = await openBackup(archive, backup);
  const found: Record<string, string> = {};
  for (const { table, segments } of (await opened.page(ref)).tables) {
    const hash = createHash('sha256');
    try {
      for await (const piece of opened.segments(ref, table, segments)) hash.update(piece);
      found[table] = hash.digest('hex');
    } catch (error) {
      found[table] = error instanceof Error && 'code' in error ? String(error.code) : 'another error';
    }
  }
  return found;
}

export function refOf(archive: OpenArchive, tenant: string): string {
  return archive.keys.subjects().find(({ subject }) => subject === tenantSubject(tenant))?.ref ?? '';
}

export function storedFile({ folder }: ArchiveFixture, object: string): Promise<Buffer> {
  return readFile(path.join(folder, 'store', object));
}
