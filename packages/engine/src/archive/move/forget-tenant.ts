import { type Operation, transaction } from '../../db/operation.ts';
import { awaitOperation, type Durable, inProcess } from '../../durable/work.ts';
import { PartywallError } from '../../errors.ts';
import { readCertificate, verifyCertificate } from '../../tenants/certificate.ts';
import { eraseTenant } from '../../tenants/erase/erase.ts';
import { works } from '../../tenants/works.ts';
import { findMove } from './moves.ts';
import { operationIn, type Placements } from './placements.ts';
import { isHome, movePrefix, readRegistry } from './registry.ts';

/** An erasure of an entry is short; old rows that wait for the end of a grace go with it. */
const erasureTimeoutMs = 6 * 3_600_000;
/** Placements that are asked, and entries of one database that are looked at in a run. */
const placementsMax = 100;
const entriesMax = 10_000;

export interface ForgetInput {
  readonly tenant: string;
  readonly placements: Placements;
  readonly reason?: string | undefined;
}

export interface ForgetReport {
  readonly tenant: string;
  /** Where it was erased: the database whose certificate says so. `here` is this one. */
  readonly erasedIn: string;
  /** Databases that have forgotten it now. */
  readonly forgotten: readonly string[];
}

interface Database {
  readonly name: string;
  readonly operation: Operation;
  /** What carries the erasure out there. */
  readonly durable: Durable;
}

/** How this database is called among its placements. */
const here = 'here';

/**
 * Erases what the other databases have left of a tenant that was erased where it lived: its entry, people and memberships, old rows whose grace has not
 * ended, and in this database its backups. Each database issues a certificate of its own. Can be asked for again.
 *
 * @param durable carries erasures of this database out, with its archive where it has one
 * @throws PartywallError move_refused (nobody certifies that it was erased, it is at home somewhere, a move is under way), placement_unknown,
 *   erasure_refused (a placement that was backed up erases its entries itself: with its own archive, `partywall erase`)
 */
export async function forgetTenant(operation: Operation, durable: Durable, { tenant, placements, reason }: ForgetInput): Promise<ForgetReport> {
  return withDatabases(operation, durable, placements, async (databases) => {
    const refuse = (why: string): PartywallError => new PartywallError('move_refused', `forgetting tenant ${tenant.slice(0, 100)}: ${why}`);
    if (await findMove(operation.database.pool, tenant, ['copying', 'switching'])) throw refuse('a move of it is under way');
    const left: Database[] = [];
    let erasedIn: string | undefined;
    for (const database of databases) {
      const registered = await readRegistry(database.operation, tenant);
      if (registered && isHome(registered) && !(await isErasing(database.operation, tenant))) throw refuse(`it is at home in ${database.name}`);
      if (registered) left.push(database);
      else if (await isCertified(database.operation, tenant)) erasedIn ??= database.name;
    }
    if (erasedIn === undefined) throw refuse('no database has a valid certificate that it was erased');
    for (const database of left) await eraseEntry(database, { tenant, reason: reason ?? `erased in ${erasedIn}` });
    return { tenant, erasedIn, forgotten: left.map(({ name }) => name) };
  });
}

export interface ForgottenTenants {
  readonly due: number;
  readonly visited: number;
  readonly forgotten: readonly string[];
  readonly failed: readonly { readonly tenant: string; readonly problem: string }[];
}

/** Forgets every tenant that has an entry somewhere and was erased elsewhere. One that is refused keeps no other from being forgotten. */
export async function forgetErased(operation: Operation, durable: Durable, placements: Placements): Promise<ForgottenTenants> {
  const due = await withDatabases(operation, durable, placements, findErased);
  const forgotten: string[] = [];
  const failed: { tenant: string; problem: string }[] = [];
  for (const tenant of due) {
    operation.signal?.throwIfAborted();
    try {
      await forgetTenant(operation, durable, { tenant, placements });
      forgotten.push(tenant);
    } catch (error) {
      if (!(error instanceof PartywallError)) throw error;
      failed.push({ tenant, problem: error.message });
    }
  }
  return { due: due.length, visited: forgotten.length + failed.length, forgotten, failed };
}

/** Tenants with an entry in one database and a certificate in another. */
async function findErased(databases: readonly Database[]): Promise<string[]> {
  const found = new Set<string>();
  for (const holder of databases) {
    const { rows } = await holder.operation.database.pool.query<{ tenant: string }>(
      `select g.tenant_id::text as tenant from partywall.registry g where g.placement is not null or starts_with(g.reason, $1) order by 1 limit ${entriesMax}`,
      [`${movePrefix}ended`],
    );
    const entries = rows.map(({ tenant }) => tenant);
    for (const { operation } of databases.filter((each) => each !== holder)) {
      const certified = await operation.database.pool.query<{ tenant: string }>(
        `select distinct c.tenant_id as tenant from partywall_control.certificates c where c.tenant_id = any ($1)
and not exists (select from partywall.registry g where g.tenant_id::text = c.tenant_id)`,
        [entries],
      );
      for (const { tenant } of certified.rows) found.add(tenant);
    }
  }
  return [...found].sort();
}

async function withDatabases<Result>(
  operation: Operation,
  durable: Durable,
  placements: Placements,
  work: (databases: readonly Database[]) => Promise<Result>,
): Promise<Result> {
  const { rows } = await operation.database.pool.query<{ name: string }>(`select p.name from partywall_control.placements p order by 1 limit ${placementsMax}`);
  const databases: Database[] = [{ name: here, operation, durable }];
  try {
    for (const { name } of rows) {
      const there = operationIn(operation, await placements.open(name));
      // Without an archive: that of this database is not the placement's.
      databases.push({ name, operation: there, durable: inProcess(there.database, works) });
    }
    return await work(databases);
  } finally {
    await Promise.all(databases.slice(1).map((each) => each.durable.stop()));
  }
}

async function isErasing({ database }: Operation, tenant: string): Promise<boolean> {
  return (await database.pool.query("select from partywall_control.directory d where d.tenant_id = $1 and d.status = 'erasing'", [tenant])).rowCount === 1;
}

async function isCertified(operation: Operation, tenant: string): Promise<boolean> {
  try {
    return (await verifyCertificate(operation, await readCertificate(operation, tenant))).valid;
  } catch (error) {
    if (error instanceof PartywallError && error.code === 'certificate_unknown') return false;
    throw error;
  }
}

/** Makes the entry the tenant of that database, still kept out, and erases that. */
async function eraseEntry({ name, operation, durable }: Database, { tenant, reason }: { readonly tenant: string; readonly reason: string }): Promise<void> {
  await transaction(operation.database.pool, async (client) => {
    await client.query("update partywall_control.moves m set state = 'finished', finished_at = $2 where m.tenant_id = $1 and m.state = 'switched'", [
      tenant,
      operation.database.clock(),
    ]);
    // A move's fence: whoever goes on after a crash must not take it for its home.
    await client.query(
      "update partywall.registry g set state = 'fenced', placement = null, reason = $2 where g.tenant_id::text = $1 and g.placement is not null",
      [tenant, `${movePrefix}ended, ${reason}`],
    );
  });
  const { id } = await eraseTenant(operation, durable, { tenant, force: true, reason });
  const ended = await awaitOperation(operation, id, { timeoutMs: erasureTimeoutMs });
  if (ended.state === 'done') return;
  throw new PartywallError('erasure_refused', `erasing what ${name} has left of tenant ${tenant}: ${ended.error ?? ended.state}`);
}
