import type { Catalog } from '../../catalog/catalog.ts';
import { PartywallError } from '../../errors.ts';
import { checkModel, describeDifference } from '../../model/check.ts';
import type { ModelDifference } from '../../model/difference.ts';
import type { ScopedRule, TenancyModel } from '../../model/model.ts';

export interface DriftOptions {
  /** For messages: the file or database. */
  readonly where: string;
  /** The caller named the schema: tables of others are not asked for. */
  readonly schemaNamed?: boolean | undefined;
}

/**
 * Before rows of tenants are read where the model was not made for: an unknown table is refused, and so is a scoped one that is missing. Tables that
 * hold no tenant's rows need not be there, names of uniques mean nothing, and people and quotas are the control plane's.
 *
 * @throws PartywallError model_unclassified, model_drift
 */
export function refuseDrift(model: TenancyModel, catalog: Catalog, { where, schemaNamed = false }: DriftOptions): void {
  const matters = ({ kind, table, severity }: ModelDifference): boolean => {
    const scope = model.tables.get(table)?.scope;
    if (kind === 'outside') return !schemaNamed;
    return severity === 'error' && !(kind === 'vanished' && (scope === 'shared' || scope === 'platform'));
  };
  const errors = checkModel(forReading(model), catalog).filter(matters);
  const [first] = errors;
  if (!first) return;
  const open = errors.some(({ kind }) => kind === 'unknown' || kind === 'unclassified' || kind === 'outside');
  throw new PartywallError(open ? 'model_unclassified' : 'model_drift', `comparing the tenancy model with ${where}: ${describeDifference(first)}`, {
    details: errors.map(describeDifference),
  });
}

function forReading(model: TenancyModel): TenancyModel {
  const tables = [...model.tables].map(
    ([table, rule]) => [table, rule.scope === 'scoped' ? ({ ...rule, uniques: new Map() } satisfies ScopedRule) : rule] as const,
  );
  return { ...model, tables: new Map(tables), people: undefined, quotas: new Map(), tenant: { ...model.tenant, profile: {} } };
}
