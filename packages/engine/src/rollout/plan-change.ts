import type { RolloutMode } from '@partywall/wall';
import { literal } from '../db/sql.ts';
import { PartywallError } from '../errors.ts';
import { rolloutLimits } from '../wall/runtime/rollout-sql.ts';
import type { ModeRow } from './state.ts';

/** What an operator asks for. `percent` is a canary: so many tenants of a hundred are enforced, all else is observed. */
export type RolloutChange =
  | { readonly scope: 'all'; readonly mode: RolloutMode }
  | { readonly scope: 'percent'; readonly percent: number }
  | { readonly scope: 'tenant'; readonly tenant: string; readonly mode: RolloutMode }
  | { readonly scope: 'table'; readonly table: string; readonly mode: RolloutMode };

type Mode = Pick<ModeRow, 'scope' | 'target' | 'mode'>;

export interface ModePlan {
  readonly set: readonly Mode[];
  readonly removed: readonly Mode[];
  /** All modes once the plan is carried out. */
  readonly after: readonly Mode[];
  /** What a person should know before and after. */
  readonly reasons: readonly string[];
}

/**
 * What changes in the modes. A mode for all replaces what was said of tenants and percentages, so that `observe` is everything at once and
 * `enforce` leaves nothing open; a canary keeps the tenants with a mode of their own.
 *
 * @throws PartywallError usage
 */
export function planChange(before: readonly Mode[], change: RolloutChange): ModePlan {
  const goes = (row: Mode): boolean => {
    switch (change.scope) {
      case 'all':
        return row.scope === 'percent' || row.scope === 'tenant' || (row.scope === 'table' && change.mode === 'enforce');
      case 'percent':
        return row.scope === 'percent';
      case 'table':
        return row.scope === 'table' && row.target === change.table && change.mode === 'enforce';
      case 'tenant':
        return false;
    }
  };
  const wanted = modesOf(change);
  const same = (one: Mode, other: Mode): boolean => one.scope === other.scope && one.target === other.target;
  const set = wanted.filter((row) => !before.some((old) => same(old, row) && old.mode === row.mode));
  const removed = before.filter((row) => goes(row) && !wanted.some((other) => same(other, row)));
  const kept = before.filter((row) => !removed.includes(row) && !wanted.some((other) => same(other, row)));
  const after = [...kept, ...wanted];
  for (const scope of ['tenant', 'table'] as const) {
    if (after.filter((row) => row.scope === scope).length > rolloutLimits.modesMax) {
      throw new PartywallError('usage', `setting a mode: ${rolloutLimits.modesMax} ${scope}s have one of their own`, {
        hint: 'set the mode of all, or a canary',
      });
    }
  }
  return { set, removed, after, reasons: reasonsOf(change, removed, after) };
}

/** Statements that carry the plan out. */
export function modeStatements(plan: ModePlan, by: { readonly name: string; readonly reason: string | undefined }): string[] {
  const reason = by.reason === undefined ? 'null' : literal(by.reason);
  return [...plan.removed.map(removeMode), ...plan.set.map((row) => setMode(row, { name: by.name, reason }))];
}

function removeMode({ scope, target }: Mode): string {
  return `delete from partywall.rollout where scope = ${literal(scope)} and target = ${literal(target)}`;
}

/** @param by `reason` is SQL */
function setMode({ scope, target, mode }: Mode, by: { readonly name: string; readonly reason: string }): string {
  return `insert into partywall.rollout (scope, target, mode, changed_by, reason) values (${literal(scope)}, ${literal(target)}, ${literal(mode)}, ${literal(by.name)}, ${by.reason})
on conflict (scope, target) do update set mode = excluded.mode, changed_at = now(), changed_by = excluded.changed_by, reason = excluded.reason`;
}

/** One mode in words: `tenant 42: enforce`. */
export function describeMode({ scope, target, mode }: Mode): string {
  if (scope === 'all') return `all: ${mode}`;
  return scope === 'percent' ? `canary of ${target} %: ${mode}` : `${scope} ${target}: ${mode}`;
}

function modesOf(change: RolloutChange): Mode[] {
  switch (change.scope) {
    case 'all':
      return [{ scope: 'all', target: '', mode: change.mode }];
    case 'percent':
      if (!Number.isInteger(change.percent) || change.percent < 0 || change.percent > 100) {
        throw new PartywallError('usage', `setting a canary of ${change.percent} percent: a whole number from 0 to 100 is needed`);
      }
      return [
        { scope: 'all', target: '', mode: 'observe' },
        { scope: 'percent', target: String(change.percent), mode: 'enforce' },
      ];
    case 'tenant':
      return [{ scope: 'tenant', target: change.tenant, mode: change.mode }];
    case 'table':
      return change.mode === 'observe' ? [{ scope: 'table', target: change.table, mode: 'observe' }] : [];
  }
}

function reasonsOf(change: RolloutChange, removed: readonly Mode[], after: readonly Mode[]): string[] {
  const reasons: string[] = [];
  const tenants = removed.filter((row) => row.scope === 'tenant').length;
  if (tenants > 0) reasons.push(`${tenants} ${tenants === 1 ? 'tenant loses its' : 'tenants lose their'} own mode: a mode for all goes for everybody`);
  const own = after.filter((row) => row.scope === 'tenant');
  if (change.scope === 'percent' && own.length > 0)
    reasons.push(`${own.length} with a mode of their own keep it: ${own.slice(0, 10).map(describeMode).join(', ')}`);
  const all = after.find((row) => row.scope === 'all')?.mode ?? 'enforce';
  const open = after.filter((row) => row.scope === 'table');
  if (open.length > 0 && all === 'enforce') reasons.push(`open to the application while the rest is enforced: ${open.map((row) => row.target).join(', ')}`);
  return reasons;
}
