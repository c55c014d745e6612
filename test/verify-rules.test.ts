import { type RuleId, rules } from '@partywall/engine';
import { expect, test } from 'vitest';

const parts = [
  ['static', 'From the catalog', 'What the system catalogs say, compared with the wall that the model asks for.'],
  ['data', 'From the data', 'Asked of the rows themselves, as a role that policies do not bind.'],
  ['attack', 'Attacks', "Tried as the application's role, each with a positive control, all rolled back."],
  ['residual', 'Residual risks', 'Named where they apply; no wall in the database closes them, and they fail nothing.'],
] as const;

/** The rules as a page. `npx vitest run test/verify-rules.test.ts -u` writes it. */
function page(): string {
  const lines = [
    '# The rules of verify',
    '',
    'Every rule and attack by its id, which waivers, `--only` and reports use. This page is made from the tables in',
    '`packages/engine/src/verify/rules/`; a test compares the two.',
    '',
  ];
  for (const [kind, title, about] of parts) {
    lines.push(`## ${title}`, '', about, '', '| rule | severity | holds when nothing is found | why, and what to do |', '| --- | --- | --- | --- |');
    for (const rule of rules.values()) {
      if (rule.kind === kind) lines.push(`| \`${rule.id}\` | ${rule.severity} | ${cell(rule.title)} | ${cell(rule.explains)} *${cell(rule.fix)}* |`);
    }
    lines.push('');
  }
  return lines.join('\n');
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('<', '&lt;').replaceAll('*', '\\*');
}

test('docs/guide/verify-rules.md is the table of rules', async () => {
  await expect(page()).toMatchFileSnapshot('../docs/guide/verify-rules.md');
});

test('every rule belongs to a part of the page', () => {
  const kinds: ReadonlySet<string> = new Set(parts.map(([kind]) => kind));
  const ids: RuleId[] = [...rules.values()].filter((rule) => !kinds.has(rule.kind)).map((rule) => rule.id);
  expect(ids).toEqual([]);
});
