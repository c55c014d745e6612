import type { WallStep } from './plan.ts';
import { transaction } from './plan-expand.ts';
import type { WantedTable } from './shape.ts';

export function contractStep(
  table: WantedTable,
  kind: string,
  title: string,
  reason: string,
  lock: WallStep['lock'],
  statements: readonly string[],
  part?: string,
): WallStep {
  return {
    id: ['contract', kind, table.relation.table, ...(part ? [part] : [])].join('/'),
    phase: 'contract',
    table: table.relation.table,
    title,
    reason,
    lock,
    action: transaction(statements),
  };
}

export function onlineStep(table: WantedTable, kind: string, title: string, reason: string, statement: string, part?: string): WallStep {
  return {
    id: ['contract', kind, table.relation.table, ...(part ? [part] : [])].join('/'),
    phase: 'contract',
    table: table.relation.table,
    title,
    reason,
    lock: 'online',
    action: { kind: 'concurrent', statement },
  };
}
