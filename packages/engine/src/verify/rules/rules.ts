import { accessRules } from './access-rules.ts';
import { attackRules, dataRules } from './attack-rules.ts';
import { residualRules } from './residual-rules.ts';
import type { RuleText } from './rule-text.ts';
import { shapeRules } from './shape-rules.ts';
import { unitAttackRules, unitRules } from './unit-rules.ts';

/**
 * All that verify looks at. static: a function of catalog and model. attack: tried as the application's role. data: read as the
 * administrator. residual: named where it applies, failing nothing. `docs/guide/verify-rules.md` is this table as text.
 */
export type RuleKind = 'static' | 'attack' | 'data' | 'residual';

export interface Rule extends RuleText {
  readonly id: RuleId;
  readonly kind: RuleKind;
  /** What the rule is about; the part of the id before the dot. */
  readonly surface: string;
}

export type StaticRuleId = keyof typeof accessRules | keyof typeof shapeRules | keyof typeof unitRules;
export type AttackRuleId = keyof typeof attackRules | keyof typeof unitAttackRules;
export type DataRuleId = keyof typeof dataRules;
export type ResidualId = keyof typeof residualRules;
/** What a finding can be of. */
export type FindingRuleId = StaticRuleId | AttackRuleId | DataRuleId;
export type RuleId = FindingRuleId | ResidualId;

export const rules: ReadonlyMap<RuleId, Rule> = new Map([
  ...table('static', { ...accessRules, ...shapeRules, ...unitRules }),
  ...table('attack', { ...attackRules, ...unitAttackRules }),
  ...table('data', dataRules),
  ...table('residual', residualRules),
]);

export function ruleOf(id: RuleId): Rule {
  const rule = rules.get(id);
  if (!rule) throw new Error(`looking up a rule of verify: no rule ${id}`);
  return rule;
}

export function isRuleId(text: string): text is RuleId {
  const known: ReadonlyMap<string, Rule> = rules;
  return known.has(text);
}

function table<Id extends RuleId>(kind: RuleKind, texts: Readonly<Record<Id, RuleText>>): [RuleId, Rule][] {
  // Object.keys forgets that the keys are ids.
  return (Object.keys(texts) as Id[]).map((id) => [id, { id, kind, surface: id.slice(0, id.indexOf('.')), ...texts[id] }]);
}
