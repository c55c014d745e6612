import { isUnitPolicyName } from '../../wall/names.ts';
import { observePolicyName } from '../../wall/runtime/rollout-sql.ts';
import type { SchemaDdl, SchemaItem } from './schema-document.ts';

const policyStart = /^create policy (\S+) on /;
const loggingTrigger = /^trigger "?zz_pw_observe_/;
/** Whom a unit's policy binds, as `schemaDdl` writes it. */
const boundTo = /(?<= as restrictive for (?:all|update|delete) to ).+?(?= using \()/;

/**
 * A schema as it is where nothing is observed: no table open, no write logged, and everybody bound by the policies of units. For databases that are made
 * of it, which begin without modes.
 */
export function withoutRollout(schema: SchemaDdl): SchemaDdl {
  const gone = new Set(schema.items.filter(isOfRollout).map(({ id }) => id));
  const items = schema.items
    .filter(({ id }) => !gone.has(id))
    .map((item) => ({ ...item, statements: isUnits(item) ? item.statements.map((statement) => statement.replace(boundTo, 'public')) : item.statements }));
  return { ...schema, items };
}

function isOfRollout(item: SchemaItem): boolean {
  return item.kind === 'trigger' ? loggingTrigger.test(item.id) : policyOf(item) === observePolicyName;
}

function isUnits(item: SchemaItem): boolean {
  return isUnitPolicyName(policyOf(item) ?? '');
}

function policyOf({ kind, statements: [statement = ''] }: SchemaItem): string | undefined {
  return kind === 'policy' ? policyStart.exec(statement)?.[1] : undefined;
}
