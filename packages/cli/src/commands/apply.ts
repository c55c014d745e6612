import {
  type ApplyReport,
  applyWall,
  connect,
  describeSession,
  describeTarget,
  describeTrouble,
  type GateReport,
  planWall,
  switchGate,
  type TenancyModel,
} from '@partywall/engine';
import { type Command, Option } from 'commander';
import { loadConfig } from '../config-file.ts';
import { confirmed } from '../confirm.ts';
import { type Answer, type CommandContext, databaseUrl, type Start } from '../context.ts';
import { modelledCatalog } from '../database.ts';
import { onlyPhase, planData, planText } from '../plan-text.ts';
import { helpEnding } from './help.ts';
import { showProgress } from './progress-of.ts';

interface ApplyFlags {
  readonly phase: 'expand' | 'switch' | 'contract';
  readonly dryRun?: true;
  readonly quarantine?: true;
  readonly allow?: readonly string[];
  readonly skipGate?: true;
  readonly yes?: true;
}

export function registerApply(program: Command, start: Start): void {
  program
    .command('apply')
    .summary('Carry out one phase online.')
    .description(
      'Carry out one phase online. Run again after an interruption, it completes; run on a finished phase, it does nothing.\n\n' +
        'Passwords for the roles come from PARTYWALL_APP_PASSWORD, PARTYWALL_SYSTEM_PASSWORD and PARTYWALL_SERVICE_PASSWORD.',
    )
    .addOption(
      new Option('--phase <phase>', 'expand adds, switch only asks who is connected, contract enforces')
        .choices(['expand', 'switch', 'contract'])
        .makeOptionMandatory(),
    )
    .option('--dry-run', 'print the plan and the rows in trouble, change nothing')
    .option('--quarantine', 'take rows that cross tenants, or have none, aside into partywall.quarantine')
    .option('--allow <role...>', 'roles whose connections do not stop the switch (a reporting tool)')
    .option('--skip-gate', 'contract although the application has not been seen on its role')
    .option('--yes', 'contract without asking')
    .addHelpText(
      'after',
      helpEnding(
        { 0: 'the phase is applied, or the gate passes', 1: 'refused: blockers, rows in trouble, connections that have not switched', 2: 'could not run' },
        [
          'partywall apply --phase expand',
          'partywall apply --phase switch',
          'partywall apply --phase contract --dry-run',
          'partywall apply --phase contract --yes',
        ],
      ),
    )
    .action(start<ApplyFlags>(apply));
}

async function apply(ctx: CommandContext, flags: ApplyFlags): Promise<Answer> {
  const { model } = await loadConfig(ctx);
  const url = databaseUrl(ctx);
  const { phase } = flags;
  if (phase === 'switch') return gateAnswer(ctx, model, await readGate(url, model, flags.allow ?? []));
  const plan = onlyPhase(planWall(model, await modelledCatalog(url, model, 'apply')), phase);
  if (phase === 'contract' && !flags.dryRun && plan.steps.length > 0) {
    if (!flags.yes) ctx.talk.line(planText(plan, { style: ctx.talk.style }));
    await confirmed(ctx, flags, `contract ${describeTarget(url)} in ${plan.steps.length} steps`);
  }
  const report = await applyWall({
    url,
    model,
    phase,
    quarantine: flags.quarantine ?? false,
    dryRun: flags.dryRun ?? false,
    allow: flags.allow ?? [],
    skipGate: flags.skipGate ?? false,
    passwords: rolePasswords(ctx),
    signal: ctx.signal,
    onProgress: (event) => showProgress(ctx, event),
  });
  return flags.dryRun ? dryAnswer(ctx, report) : applyAnswer(report);
}

/** Passwords come from the environment: a command line is visible to everybody on the machine. */
export function rolePasswords(ctx: Pick<CommandContext, 'env'>): { app?: string; system?: string; service?: string } {
  const { PARTYWALL_APP_PASSWORD: app, PARTYWALL_SYSTEM_PASSWORD: system, PARTYWALL_SERVICE_PASSWORD: service } = ctx.env;
  return { ...(app && { app }), ...(system && { system }), ...(service && { service }) };
}

async function readGate(url: string, model: TenancyModel, allow: readonly string[]): Promise<GateReport> {
  const client = await connect(url, { purpose: 'switch gate' });
  try {
    return await switchGate(client, model, { allow });
  } finally {
    await client.end();
  }
}

function gateAnswer(ctx: CommandContext, model: TenancyModel, gate: GateReport): Answer {
  const lines = [
    `${gate.passed ? ctx.style('green', 'pass') : ctx.style('red', 'FAIL')}  ${gate.message}`,
    ...gate.remaining.map((session) => `  not switched  ${describeSession(session)}`),
    ...gate.switched.map((session) => `  switched      ${describeSession(session)}`),
  ];
  if (!gate.passed) lines.push(`  → connect the application as ${model.roles.app} through a walled pool, then run this again`);
  return { exit: gate.passed ? 0 : 1, data: gate, text: lines.join('\n') };
}

function dryAnswer(ctx: CommandContext, report: ApplyReport): Answer {
  const plan = onlyPhase(report.plan, report.phase);
  const trouble = report.troubled.map((rows) => `-- in trouble: ${describeTrouble(rows)}`);
  return {
    exit: 0,
    data: { phase: report.phase, dryRun: true, ...planData(plan), troubled: report.troubled },
    text: [...(plan.steps.length === 0 ? [`-- ${report.phase}: nothing to do`] : [planText(plan, ctx)]), ...trouble].join('\n'),
  };
}

function applyAnswer(report: ApplyReport): Answer {
  const quarantined = [...report.quarantined];
  const lines = [
    report.applied.length === 0 ? `${report.phase}: nothing to do` : `${report.phase}: ${report.applied.length} steps applied`,
    ...quarantined.map(([table, count]) => `  quarantined: ${count} rows of ${table}`),
  ];
  if (report.troubled.length > 0) {
    lines.push('rows to repair before contract (or pass --quarantine):', ...report.troubled.map((rows) => `  ${describeTrouble(rows)}`));
  }
  return {
    exit: 0,
    data: {
      phase: report.phase,
      dryRun: false,
      applied: report.applied,
      troubled: report.troubled,
      quarantined: Object.fromEntries(quarantined),
      gate: report.gate ?? null,
      residuals: report.plan.residuals,
    },
    text: lines.join('\n'),
  };
}
