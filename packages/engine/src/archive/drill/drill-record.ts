import { appendAudit } from '../../audit/append.ts';
import { type Operation, transaction } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import type { DrillReport } from './drill-report.ts';

const lockSql = "select pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended('partywall:drill', 0)) as locked";
const unlockSql = "select pg_catalog.pg_advisory_unlock(pg_catalog.hashtextextended('partywall:drill', 0))";
const cutOffSql = `update partywall_control.drills set finished_at = $1, outcome = 'failed', report = report || '{"error": "it was cut off"}' where finished_at is null`;

/** Runs `work` as the only drill of the database. What is said to run beside it was cut off. @throws PartywallError restore_refused: another drill runs */
export async function asOnlyDrill<Result>({ database }: Operation, work: () => Promise<Result>): Promise<Result> {
  const client = await database.pool.connect();
  const ignore = (): void => undefined;
  // It waits for as long as the drill takes; that it was lost surfaces when the lock is given back.
  client.on('error', ignore);
  try {
    const { rows } = await client.query<{ locked: boolean }>(lockSql);
    if (!rows[0]?.locked)
      throw new PartywallError('restore_refused', 'drilling a restore: another drill of this database runs', { hint: 'wait until it has ended' });
    await client.query(cutOffSql, [database.clock()]);
    return await work();
  } finally {
    const lost = await client.query(unlockSql).then(
      () => false,
      () => true,
    );
    client.off('error', ignore);
    client.release(lost);
  }
}

/** Remembers that a drill begins. Returns its id. */
export async function beginDrill({ database }: Operation, { backup, tenants }: { readonly backup: string; readonly tenants: number }): Promise<string> {
  const { rows } = await database.pool.query<{ id: string }>(
    'insert into partywall_control.drills (backup, started_at, tenants) values ($1, $2, $3) returning id',
    [backup, database.clock(), tenants],
  );
  return rows[0]?.id ?? '';
}

const provedSql = `insert into partywall_control.proved_points as r (tenant_id, drill, backup, at, proved_at)
select d.tenant_id, $2, $3, $4, $5 from partywall_control.directory d where d.tenant_id = any ($1::text[])
on conflict (tenant_id) do update set drill = excluded.drill, backup = excluded.backup, at = excluded.at, proved_at = excluded.proved_at`;

/** The report, what it proves of each tenant, and the audit record, together. */
export async function endDrill(operation: Operation, report: DrillReport): Promise<void> {
  const { id, backup, at, finishedAt, outcome, readySeconds, visited, held, rows } = report;
  const proved = report.tenants.filter((tenant) => tenant.outcome === 'passed').map(({ tenant }) => tenant);
  const failed = report.steps.filter((step) => step.outcome === 'failed').map(({ step }) => step);
  await transaction(operation.database.pool, async (client) => {
    await client.query('update partywall_control.drills set finished_at = $2, outcome = $3, rto_seconds = $4, report = $5 where id = $1', [
      id,
      finishedAt,
      outcome,
      readySeconds,
      JSON.stringify(report),
    ]);
    await client.query(provedSql, [proved, id, backup, at, finishedAt]);
    await appendAudit(client, operation, {
      tenant: null,
      action: 'backup.drill',
      target: `drill:${id}`,
      details: { backup, outcome, tenants: visited, of: held, rows, readySeconds, failed },
    });
  });
}

/** For a drill that could not be carried out, whatever the backup is like. */
export async function failDrill({ database }: Operation, id: string, why: string): Promise<void> {
  await database.pool.query(
    "update partywall_control.drills set finished_at = $2, outcome = 'failed', report = jsonb_build_object('error', $3::text) where id = $1",
    [id, database.clock(), why],
  );
}
