import type { Fill } from './plan-clone.ts';

/** How a column is filled, for people. */
export function describeFill(fill: Fill): string {
  switch (fill.kind) {
    case 'kept':
      return 'kept';
    case 'tenant':
      return 'the clone';
    case 'tenant reference':
      return 'the clone, where it was the source';
    case 'new':
      return `new, by ${fill.expression}`;
    case 'reference':
      return `follows ${fill.table}.${fill.column}`;
    case 'profile':
      return `the clone's ${fill.of === 'contactEmail' ? 'contact' : fill.of}`;
    case 'status':
      return 'kept, unless it keeps the tenant out';
    case 'rule':
      if (fill.rule.kind === 'sql') return `by the model: ${fill.rule.sql}`;
      if (fill.rule.kind === 'polymorphic') return `follows what ${fill.rule.by} says`;
      return `by the model: ${fill.rule.kind}`;
  }
}
