import type { Catalog, Relation } from '../catalog/catalog.ts';
import type { WantedWall } from '../wall/shape.ts';
import type { AttackResult } from './attack/attack-result.ts';
import type { Finding } from './finding.ts';
import type { FindingRuleId } from './rules/rules.ts';
import { topTables } from './static/static-facts.ts';

/** One line of the isolation suite that the property portal's runbook prints. */
export interface NamedCheck {
  readonly name: string;
  readonly outcome: 'pass' | 'fail' | 'not run';
  readonly detail: string;
}

/** A query by tenant may take this long, warm, median of five. */
export const queryMsMax = 100;

export interface SuiteInput {
  readonly wanted: WantedWall;
  readonly catalog: Catalog;
  readonly findings: readonly Finding[];
  /** Attacks over the direct connection; undefined where none were made. */
  readonly attacks: readonly AttackResult[] | undefined;
  readonly query: { readonly table: string; readonly medianMs: number } | { readonly failed: string } | undefined;
}

/** The eight checks by the names they have in the runbook, each over every table it is about. */
export function namedChecks(input: SuiteInput): NamedCheck[] {
  const tables = topTables(input.wanted).filter((table) => table.rule !== undefined);
  const first = tables.find(({ relation }) => relation.name === 'messages') ?? largest(tables);
  const exists = (name: string): NamedCheck['outcome'] => (input.catalog.runtime?.relations.some((relation) => relation.name === name) ? 'pass' : 'fail');
  const where = (name: string): string => `partywall.${name}`;
  return [
    { name: `${first ? capitalised(first.relation.name) : 'Tables'} reject null ${first?.column ?? 'tenant_id'}`, ...nullTenants(input, tables.length) },
    { name: 'Cross-tenant insert blocked', ...attacked(input, ['write.insert', 'write.move', 'reference.attach']) },
    { name: 'Valid context accepted', ...validContext(input, tables.length) },
    { name: 'Orphaned data view exists', outcome: exists('orphaned_data_summary'), detail: where('orphaned_data_summary') },
    { name: 'Recovery map table exists', outcome: exists('recovery_map'), detail: where('recovery_map') },
    { name: 'Demo seed log table exists', outcome: exists('demo_seed_log'), detail: where('demo_seed_log') },
    { name: 'Query performance acceptable', ...performanceOf(input) },
    { name: 'RLS enabled on tenant tables', ...enabled(input, tables.length) },
  ];
}

type Said = Pick<NamedCheck, 'outcome' | 'detail'>;

function largest<T extends { relation: Relation }>(tables: readonly T[]): T | undefined {
  return [...tables].sort((left, right) => right.relation.estimatedRows - left.relation.estimatedRows)[0];
}

function capitalised(name: string): string {
  return name.charAt(0).toUpperCase() + name.slice(1);
}

function nullTenants(input: SuiteInput, tables: number): Said {
  const nullable = count(input.findings, ['tenant.nullable', 'coverage.no-tenant-column']);
  if (nullable > 0) return { outcome: 'fail', detail: `${nullable} of ${tables} tables take NULL` };
  if (input.attacks?.some((result) => result.rule === 'write.null-tenant' && result.outcome === 'broken'))
    return { outcome: 'fail', detail: 'a row without a tenant was accepted' };
  return { outcome: 'pass', detail: `${tables} of ${tables} tables` };
}

function attacked({ attacks }: SuiteInput, rules: readonly FindingRuleId[]): Said {
  const made = attacks?.filter((result) => rules.includes(result.rule)) ?? [];
  const broken = made.filter((result) => result.outcome === 'broken').length;
  if (broken > 0) return { outcome: 'fail', detail: `${broken} of ${made.length} attempts got through` };
  const stuck = made.filter((result) => result.outcome === 'could not run').length;
  if (made.length === 0 || stuck > 0)
    return { outcome: 'not run', detail: made.length === 0 ? 'no attacks were made' : `${stuck} of ${made.length} attempts could not be made` };
  return { outcome: 'pass', detail: `${made.length} attempts refused` };
}

/** Every attack on a table starts with a row that its own tenant planted or saw. */
function validContext({ attacks }: SuiteInput, tables: number): Said {
  const reads = attacks?.filter((result) => result.rule === 'read.rows') ?? [];
  const blind = reads.filter((result) => result.outcome === 'could not run').length;
  if (reads.length === 0) return { outcome: 'not run', detail: 'no attacks were made' };
  return blind > 0
    ? { outcome: 'fail', detail: `${blind} tables showed a tenant no row of its own` }
    : { outcome: 'pass', detail: `${tables} of ${tables} tables` };
}

function performanceOf({ query }: SuiteInput): Said {
  if (query === undefined) return { outcome: 'not run', detail: 'no attacks were made' };
  if ('failed' in query) return { outcome: 'not run', detail: query.failed };
  return {
    outcome: query.medianMs <= queryMsMax ? 'pass' : 'fail',
    detail: `50 rows of ${query.table} in ${query.medianMs.toFixed(1)} ms, at most ${queryMsMax} ms`,
  };
}

function enabled({ findings }: SuiteInput, tables: number): Said {
  const off = count(findings, ['rls.off', 'rls.off-with-policies', 'rls.not-forced', 'rls.no-policy']);
  return off > 0 ? { outcome: 'fail', detail: `${off} findings` } : { outcome: 'pass', detail: `${tables} of ${tables} tables` };
}

function count(findings: readonly Finding[], rules: readonly FindingRuleId[]): number {
  return findings.filter((found) => rules.includes(found.rule)).length;
}
