import {
  changeRollout,
  connect,
  describeMode,
  type ModePlan,
  type RolloutChange,
  type RolloutStatus,
  rolloutStatus,
  type SetModeReport,
} from '@partywall/engine';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { loadConfig } from '../config-file.ts';
import type { Answer, CommandContext, Start } from '../context.ts';
import { operatorName, rolloutUrl } from '../control.ts';
import { helpEnding } from './help.ts';
import { registerRolloutGates } from './rollout-gates.ts';

interface ModeFlags {
  readonly tenant?: string;
  readonly table?: string;
  readonly reason?: string;
  readonly dryRun?: true;
}

const hourMs = 3_600_000;
const changed = { 0: 'changed, or nothing to change', 1: 'the modes hold, and a table could not be followed up: run it again', 2: 'could not be changed' };

export function registerRollout(program: Command, start: Start): void {
  const rollout = program
    .command('rollout')
    .summary('Roll the wall out by steps, and back at once.')
    .description(
      'Which tenants and tables the wall holds for (enforce), and for which it only counts what it would refuse (observe). Running processes follow within seconds.',
    );

  rollout
    .command('status')
    .description('Show the modes, what was seen and where in the application it comes from.')
    .option('--hours <number>', 'of counts and times', parseHours, 24)
    .addHelpText(
      'after',
      helpEnding({ 0: 'shown', 1: 'shown, and a table is not watched as it should be', 2: 'could not be asked' }, ['partywall rollout status --json']),
    )
    .action(start<{ hours: number }>(status));

  for (const mode of ['observe', 'enforce'] as const) {
    const what =
      mode === 'observe' ? 'Refuse nothing and count what would be: for all, a tenant or a table.' : 'Let the wall hold: for all, a tenant or a table.';
    withFlags(rollout.command(mode).description(what))
      .addOption(new Option('--tenant <key>', 'this tenant alone').conflicts('table'))
      .option('--table <name>', 'this table alone, while the rest is enforced')
      .addHelpText(
        'after',
        helpEnding(changed, [`partywall rollout ${mode} --reason "errors after the release"`, `partywall rollout ${mode} --tenant 42 --dry-run`]),
      )
      .action(start<ModeFlags>((ctx, flags) => change(ctx, changeOf(mode, flags), flags)));
  }

  withFlags(
    rollout
      .command('canary')
      .description('Enforce so many tenants of a hundred, by a hash of their key, and observe the others.')
      .argument('<percent>', '0 to 100', parsePercent),
  )
    .addHelpText('after', helpEnding(changed, ['partywall rollout canary 10 --reason "first tenants"']))
    .action((percent: number, ...given: unknown[]) => start<ModeFlags>((ctx, flags) => change(ctx, { scope: 'percent', percent }, flags))(...given));

  registerRolloutGates(rollout, start);
}

function withFlags(command: Command): Command {
  return command.option('--reason <text>', 'why, kept with the mode and in the audit log').option('--dry-run', 'print what would change');
}

function changeOf(mode: 'observe' | 'enforce', { tenant, table }: ModeFlags): RolloutChange {
  if (tenant !== undefined) return { scope: 'tenant', tenant, mode };
  return table === undefined ? { scope: 'all', mode } : { scope: 'table', table, mode };
}

async function change(ctx: CommandContext, wanted: RolloutChange, { reason, dryRun }: ModeFlags): Promise<Answer> {
  const { model } = await loadConfig(ctx);
  const client = await connect(rolloutUrl(ctx), { purpose: 'rollout' });
  try {
    const input = { model, change: wanted, actor: { kind: 'operator' as const, id: operatorName(ctx) }, reason };
    const report = await changeRollout(client, input, { dryRun: dryRun ?? false, signal: ctx.signal });
    return { exit: report.unfinished.length > 0 ? 1 : 0, data: { dryRun: dryRun ?? false, ...report }, text: reportText(report, dryRun ?? false) };
  } finally {
    await client.end();
  }
}

async function status(ctx: CommandContext, { hours }: { hours: number }): Promise<Answer> {
  const { model } = await loadConfig(ctx);
  const client = await connect(rolloutUrl(ctx), { purpose: 'rollout' });
  try {
    const found = await rolloutStatus(client, { model, since: new Date(Date.now() - hours * hourMs) });
    return { exit: found.unwatchedTables.length > 0 ? 1 : 0, data: found, text: statusText(found) };
  } finally {
    await client.end();
  }
}

function reportText({ plan, steps, unfinished }: SetModeReport, dryRun: boolean): string {
  const lines = [...planLines(plan), ...plan.reasons.map((line) => `-- ${line}`)];
  if (dryRun) lines.push(...steps.map(({ table, title }) => `then ${title}: ${table}`));
  else if (steps.length > 0) lines.push(`tables followed up: ${Math.max(0, steps.length - unfinished.length)} of ${steps.length}`);
  lines.push(...unfinished.map(({ table, title, reason }) => `not done: ${title}${table === undefined ? '' : `: ${table}`} (${reason})`));
  return lines.length === 0 ? 'rollout: nothing to change' : lines.join('\n');
}

function planLines({ set, removed }: ModePlan): string[] {
  return [...set.map((row) => `set ${describeMode(row)}`), ...removed.map((row) => `remove ${describeMode(row)}`)];
}

function statusText(found: RolloutStatus): string {
  const { modes, tenants, traffic, seen, places, openTables, unwatchedTables } = found;
  const ms = (value: number | null): string => (value === null ? 'more than all buckets' : `at most ${value} ms`);
  return [
    ...(modes.length === 0 ? ['no mode is set: all is enforced'] : modes.map((row) => `${describeMode(row)}${row.reason ? `  (${row.reason})` : ''}`)),
    `tenants: ${tenants.enforced} enforced, ${tenants.observed} observed, of ${tenants.of}`,
    ...openTables.map((table) => `open to the application: ${table}`),
    ...unwatchedTables.map((table) => `not watched as it should be: ${table}`),
    ...traffic.map(({ mode, queries, errors, p50Ms, p99Ms }) => `${mode}: ${queries} statements, ${errors} errors, P50 ${ms(p50Ms)}, P99 ${ms(p99Ms)}`),
    ...seen.map(({ mode, kind, count }) => `${mode} ${kind}: ${count}`),
    ...places
      .slice(0, 20)
      .map(
        ({ kind, relation, location, statement, count }) => `  ${count} ${kind} ${[relation, location, statement.slice(0, 100)].filter(Boolean).join('  ')}`,
      ),
  ].join('\n');
}

function parsePercent(text: string): number {
  if (!/^(\d{1,2}|100)$/.test(text)) throw new InvalidArgumentError('a percentage is a whole number from 0 to 100');
  return Number(text);
}

function parseHours(text: string): number {
  const hours = Number(text);
  if (!(hours > 0 && hours <= 192)) throw new InvalidArgumentError('counts are kept for eight days: a number of hours up to 192');
  return hours;
}
