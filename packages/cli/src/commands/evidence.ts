import fs from 'node:fs/promises';
import path from 'node:path';
import { type ControlEvidence, controlEvidence, describeTarget, isSound, modelFingerprint, signEvidence, toJson, verifyExit } from '@partywall/engine';
import { type Command, InvalidArgumentError } from 'commander';
import { type Answer, type CommandContext, connectionString, databaseUrl, type Start } from '../context.ts';
import { withControl } from '../control.ts';
import { version } from '../version.ts';
import { helpEnding } from './help.ts';
import { verifyDatabase } from './verify.ts';

interface EvidenceFlags {
  readonly adminUrl?: string;
  readonly appUrl?: string;
  readonly days: number;
  readonly output?: string;
}

const daysDefault = 90;
const daysMax = 3_650;

export function registerEvidence(program: Command, start: Start): void {
  program
    .command('evidence')
    .summary('One signed report of live checks, for an audit.')
    .description(
      'One report for SOC 2, GDPR and penetration tests, all of it from live checks: the wall is verified and attacked, the audit log and the ' +
        'certificates of erasures are verified, and what was refused, who may do what and how long data is kept is listed. Signed with the keyring.',
    )
    .option('--admin-url <url>', 'connection string that verify works with (default: DATABASE_URL)')
    .option('--app-url <url>', "the application's connection string, for the attacks (default: PARTYWALL_APP_URL)")
    .option('--days <days>', 'period of the denials and changes', parseDays, daysDefault)
    .option('--output <file>', 'write the report, with its signature, to a file')
    .addHelpText(
      'after',
      helpEnding({ 0: 'sound', 1: 'findings, or a record that was changed', 2: 'something could not be asked' }, [
        'partywall evidence --output evidence-2026-12.json',
        'partywall evidence --days 365 --json',
      ]),
    )
    .action(start<EvidenceFlags>(run));
}

async function run(ctx: CommandContext, flags: EvidenceFlags): Promise<Answer> {
  const appUrl = flags.appUrl ?? ctx.env['PARTYWALL_APP_URL'];
  return withControl(ctx, async (operation) => {
    const { model } = operation.database;
    // The service role does not own the tables; verifying takes who raised the wall.
    const url = flags.adminUrl === undefined ? databaseUrl({ ...ctx, options: {} }) : connectionString(flags.adminUrl, '--admin-url');
    const admin: CommandContext = { ...ctx, options: { ...ctx.options, url } };
    const wall = await verifyDatabase(admin, model, appUrl ? { appUrl: connectionString(appUrl, '--app-url') } : {});
    const control = await controlEvidence(operation, { periodDays: flags.days });
    const report = {
      format: 'partywall.evidence/1',
      partywall: version,
      at: operation.database.clock().toISOString(),
      database: describeTarget(url),
      model: modelFingerprint(model),
      wall: toJson(wall),
      control,
    };
    const signed = await signEvidence(operation, report);
    if (flags.output !== undefined) await fs.writeFile(path.resolve(ctx.cwd, flags.output), `${JSON.stringify(signed)}\n`, { mode: 0o600 });
    const wallExit = verifyExit(wall);
    const exit = wallExit === 0 && !isSound(control) ? 1 : wallExit;
    return {
      exit,
      data: { ...report, keyId: signed.keyId, signature: signed.signature },
      text: textOf(wallExit === 0, wall.findings.length, control, flags.output),
    };
  });
}

function textOf(wallSound: boolean, findings: number, control: ControlEvidence, output: string | undefined): string {
  const { audit, erasures, tenants, superAdmins, denials, retention } = control;
  const count = Object.entries(tenants).map(([status, number]) => `${number} ${status}`);
  return [
    `wall        ${wallSound ? 'sound: every rule and attack passed' : `not sound: ${findings} findings; see \`partywall verify\``}`,
    `audit log   ${audit.sound ? 'whole' : `broken in ${audit.faults.length + audit.more} chains`}: ${audit.records} records, ${audit.chains.visited} of ${audit.chains.of} chains, ${audit.anchors} anchors`,
    `erasures    ${erasures.certificates} certificates, ${erasures.checked} checked, ${erasures.invalid.length} invalid`,
    `tenants     ${count.join(', ') || 'none'}; ${control.holds} under a legal hold`,
    `operators   ${superAdmins.map(({ email }) => email).join(', ') || 'no super-admin'}`,
    `refused     ${denials.map(({ action, times }) => `${action} ${times}`).join(', ') || 'nothing'} (${control.periodDays} days)`,
    `retention   ${retention.map(({ plan, tenantDays, auditDays }) => `${plan} ${tenantDays} d, audit ${auditDays} d`).join('; ')}`,
    ...(output === undefined ? [] : [`written to ${output}`]),
  ].join('\n');
}

function parseDays(text: string): number {
  const days = Number(text);
  if (!/^\d{1,4}$/.test(text) || days < 1 || days > daysMax) throw new InvalidArgumentError(`write a number from 1 to ${daysMax}`);
  return days;
}
