import {
  type Alert,
  acknowledgeAlert,
  type Evaluation,
  evaluateAlerts,
  listAlertRules,
  listAlerts,
  metrics,
  PartywallError,
  purgeAlerts,
  refreshAlerts,
  severities,
} from '@partywall/engine';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Answer, CommandContext, Start } from '../context.ts';
import { withControl } from '../control.ts';
import { registerAlertChannels } from './alerts-channels.ts';
import { helpEnding } from './help.ts';

interface ListFlags {
  readonly status: 'open' | 'resolved' | 'all';
  readonly severity?: (typeof severities)[number];
  readonly tenant?: string;
  readonly limit: number;
}

interface EvaluateFlags {
  readonly tenant?: string;
}

interface AcknowledgeFlags {
  readonly note?: string;
}

const limitMax = 10_000;

export function registerAlerts(program: Command, start: Start): void {
  const alerts = program
    .command('alerts')
    .summary('Show, evaluate and acknowledge alerts; set where they are told.')
    .description('Alerts by quota, error rate, response time and connections; their rules, and the channels that are told.');
  alerts
    .command('list')
    .summary('Show alerts, latest first.')
    .addOption(new Option('--status <status>', 'which').choices(['open', 'resolved', 'all']).default('open'))
    .addOption(new Option('--severity <severity>', 'only these').choices([...severities]))
    .option('--tenant <key>', 'only of this tenant')
    .option('--limit <n>', 'at most so many', parseLimit, 100)
    .addHelpText('after', helpEnding({ 0: 'shown', 2: 'could not be asked' }, ['partywall alerts list', 'partywall alerts list --severity critical --json']))
    .action(start<ListFlags>(list));
  alerts
    .command('evaluate')
    .summary('Evaluate all rules now.')
    .option('--tenant <key>', 'only for this tenant')
    .addHelpText('after', helpEnding({ 0: 'evaluated', 2: 'could not be evaluated' }, ['partywall alerts evaluate']))
    .action(start<EvaluateFlags>(evaluate));
  alerts
    .command('acknowledge')
    .summary('Say that somebody looks after an alert.')
    .argument('<id>', 'id of an open alert')
    .option('--note <text>', 'what is being done')
    .addHelpText(
      'after',
      helpEnding({ 0: 'acknowledged, now or before', 1: 'it is resolved', 2: 'there is none of this id' }, [
        'partywall alerts acknowledge 7d0c2b1e-8f43-4f0f-9a51-3c5d2e7b9a10 --note "customer is cleaning up"',
      ]),
    )
    .action((id: string, ...given: unknown[]) => start<AcknowledgeFlags>((ctx, flags) => acknowledge(ctx, id, flags))(...given));
  alerts
    .command('rules')
    .summary('Show the rules.')
    .addHelpText('after', helpEnding({ 0: 'shown', 2: 'could not be asked' }, ['partywall alerts rules']))
    .action(start<object>(rules));
  alerts
    .command('purge')
    .summary('Delete resolved alerts and messages that are older than they are kept.')
    .addHelpText('after', helpEnding({ 0: 'all of them', 1: 'many are left: run it again', 2: 'could not be asked' }, ['partywall alerts purge']))
    .action(start<object>(purge));
  registerAlertChannels(alerts, start);
}

function list(ctx: CommandContext, { status, severity, tenant, limit }: ListFlags): Promise<Answer> {
  return withControl(ctx, async (operation) => {
    const evaluatedAt = await refreshAlerts(operation);
    const items = await listAlerts(operation, { status, severity, tenant, limit });
    const none = status === 'open' ? 'no alert is open' : 'no alerts';
    return { exit: 0, data: { items, evaluatedAt }, text: items.length === 0 ? none : items.map((alert) => lineOf(ctx, alert)).join('\n') };
  });
}

function evaluate(ctx: CommandContext, { tenant }: EvaluateFlags): Promise<Answer> {
  return withControl(ctx, async (operation) => {
    const evaluation = await evaluateAlerts(operation, { tenant });
    return { exit: 0, data: evaluation, text: evaluationText(evaluation) };
  });
}

function acknowledge(ctx: CommandContext, id: string, { note }: AcknowledgeFlags): Promise<Answer> {
  return withControl(ctx, async (operation) => {
    const alert = await acknowledgeAlert(operation, { id: uuid(id), note });
    return { exit: 0, data: alert, text: `${alert.message}\nacknowledged by ${alert.acknowledgedBy} at ${alert.acknowledgedAt}` };
  });
}

function rules(ctx: CommandContext): Promise<Answer> {
  return withControl(ctx, async (operation) => {
    const items = await listAlertRules(operation);
    const width = Math.max(0, ...items.map(({ name }) => name.length));
    const lines = items.map(({ name, metric, warning, critical, enabled }) => {
      const { unit, inclusive } = metrics[metric];
      return `${name.padEnd(width)}  ${metric}  warning ${inclusive ? 'at' : 'over'} ${warning} ${unit}, critical ${critical} ${unit}${enabled ? '' : ', off'}`;
    });
    return { exit: 0, data: { items }, text: lines.join('\n') };
  });
}

function purge(ctx: CommandContext): Promise<Answer> {
  return withControl(ctx, async (operation) => {
    const purged = await purgeAlerts(operation);
    return { exit: purged.finished ? 0 : 1, data: purged, text: `deleted ${purged.alerts} alerts and ${purged.deliveries} messages` };
  });
}

function lineOf(ctx: CommandContext, { id, severity, status, openedAt, message, acknowledgedBy }: Alert): string {
  const word = ctx.style(severity === 'critical' ? 'red' : 'yellow', severity.padEnd(8));
  const state = status === 'resolved' ? ', resolved' : acknowledgedBy === null ? '' : `, acknowledged by ${acknowledgedBy}`;
  return `${word}  ${openedAt}  ${message}${state}\n          ${ctx.style('dim', id)}`;
}

function evaluationText({ opened, escalated, resolved, kept, deliveries }: Evaluation): string {
  return `${opened} opened, ${escalated} escalated, ${resolved} resolved, ${kept} go on; ${deliveries} messages on their way`;
}

function parseLimit(text: string): number {
  const limit = Number(text);
  if (!/^\d+$/.test(text) || limit < 1 || limit > limitMax) throw new InvalidArgumentError(`a number from 1 to ${limitMax}`);
  return limit;
}

function uuid(text: string): string {
  if (/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)) return text;
  throw new PartywallError('usage', `reading the id of the alert: ${JSON.stringify(text)} is none`);
}
