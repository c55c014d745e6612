import { type Catalog, type RuleId, type TenancyModel, verify } from '@partywall/engine';
import { fail, type Line, pass, skip } from './line.ts';

/** What verify asks of schema `partywall` that holds in every phase. */
const rules: readonly RuleId[] = [
  'runtime.missing',
  'runtime.function-changed',
  'runtime.function-unknown',
  'runtime.function-open',
  'runtime.relation-changed',
  'runtime.registry-open',
  'runtime.seal-open',
  'runtime.owner',
  'runtime.trigger',
];

/** Whether what the wall consists of is as it was installed: a policy asks functions, and somebody can have put others in their place. */
export async function schemaLine(url: string, catalog: Catalog, model: TenancyModel): Promise<Line> {
  const id = 'schema';
  if (!catalog.runtime) return skip(id, 'schema partywall is not installed');
  const { findings } = await verify({ model, adminUrl: url, staticOnly: true, only: rules });
  const [first] = findings;
  if (!first) return pass(id, 'schema partywall is as installed');
  const more = findings.length > 1 ? `, and ${findings.length - 1} more` : '';
  return fail(id, `${first.message}${more}`, 'run `partywall verify --static` for what each finding takes; `partywall apply --phase expand` makes most anew');
}
