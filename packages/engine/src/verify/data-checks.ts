import type pg from 'pg';
import { sqlState } from '../db/connect.ts';
import { ident } from '../db/sql.ts';
import { quoted } from '../model/table-name.ts';
import { type OrphanCheck, orphanChecks } from '../wall/operations-sql.ts';
import type { WantedWall } from '../wall/shape.ts';
import { type Finding, finding } from './finding.ts';
import type { DataRuleId } from './rules/rules.ts';

/** How long one check may read; a table of a hundred million rows needs an index or another time of day. */
const checkTimeoutMs = 120_000;

export interface DataReport {
  readonly findings: readonly Finding[];
  /** Checks made, by rule: a check that found nothing is one of them. */
  readonly made: ReadonlyMap<DataRuleId, number>;
  readonly failures: readonly { readonly rules: readonly DataRuleId[]; readonly target: string; readonly reason: string }[];
}

const ruleOfProblem: Readonly<Record<string, DataRuleId>> = {
  'no tenant': 'data.no-tenant',
  'unknown tenant': 'data.unknown-tenant',
  'parent of another tenant': 'data.crossed',
  'missing parent': 'data.crossed',
};

/**
 * Reads every reference and every tenant column against the data itself, in one read-only snapshot. A constraint that an owner
 * under forced row level security validated is valid in the catalog and proves nothing. With row_security off a reader whom
 * policies bind gets an error here, never a count that is too low.
 */
export async function checkData(
  client: pg.ClientBase,
  wanted: WantedWall,
  options: { signal?: AbortSignal | undefined; onProgress: (done: number, total: number, what: string) => void },
): Promise<DataReport> {
  const findings: Finding[] = [];
  const failures: { rules: readonly DataRuleId[]; target: string; reason: string }[] = [];
  const made = new Map<DataRuleId, number>();
  const checks = [...orphanChecks(wanted).map((check): DataCheck => ({ ...check, rules: rulesOfKind[check.kind] })), ...registryCheck(wanted)];
  await client.query(`begin isolation level repeatable read, read only; set local row_security = off; set local statement_timeout = ${checkTimeoutMs}`);
  try {
    for (const [at, check] of checks.entries()) {
      options.signal?.throwIfAborted();
      options.onProgress(at, checks.length, check.table);
      await client.query('savepoint pw_check');
      for (const rule of check.rules) made.set(rule, (made.get(rule) ?? 0) + 1);
      try {
        const { rows } = await client.query<{ problem: string; via: string; row_count: string }>(`select * from (${check.query}) c (problem, via, row_count)`);
        findings.push(...rows.map((row) => toFinding(check, row)));
      } catch (error) {
        // Without an SQLSTATE the connection is gone.
        if (sqlState(error)?.length !== 5) throw error;
        await client.query('rollback to savepoint pw_check');
        failures.push({ rules: check.rules, target: check.table, reason: error instanceof Error ? error.message : String(error) });
      }
    }
  } finally {
    await client.query('rollback');
  }
  return { findings, made, failures };
}

type DataCheck = Omit<OrphanCheck, 'kind'> & { readonly rules: readonly DataRuleId[] };

const rulesOfKind: Readonly<Record<OrphanCheck['kind'], readonly DataRuleId[]>> = {
  tenant: ['data.no-tenant', 'data.unknown-tenant'],
  reference: ['data.crossed'],
};

/** Compares the root with the registry. */
export function registryCheck(wanted: WantedWall): DataCheck[] {
  const root = [...wanted.tables.values()].find((table) => table.rule === undefined);
  if (!root) return [];
  const key = `r.${ident(root.column)}`;
  const check: DataCheck = {
    table: root.relation.table,
    rules: ['data.unregistered'],
    query: `select case when t.tenant_id is null then 'not registered' else 'registered without a row' end, 'partywall.registry', count(*)
from ${quoted(root.relation.table)} r full join partywall.registry t on t.tenant_id = ${key} where t.tenant_id is null or ${key} is null group by 1`,
  };
  return [check];
}

function toFinding(check: DataCheck, row: { problem: string; via: string; row_count: string }): Finding {
  const rule = ruleOfProblem[row.problem] ?? 'data.unregistered';
  const target = rule === 'data.crossed' ? `${check.table} ${row.via}` : check.table;
  const rows = row.row_count === '1' ? '1 row' : `${row.row_count} rows`;
  return finding(rule, target, `${rows} of ${check.table}: ${row.problem}, by ${row.via}`, { evidence: `${row.row_count} × ${row.problem}` });
}
