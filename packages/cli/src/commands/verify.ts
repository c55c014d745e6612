import fs from 'node:fs/promises';
import path from 'node:path';
import {
  baselineOf,
  isRuleId,
  PartywallError,
  parseBaseline,
  type RuleId,
  renderHuman,
  sqlState,
  type TenancyModel,
  toJson,
  toJunit,
  toSarif,
  type VerifyOptions,
  type VerifyProgress,
  type VerifyReport,
  verify,
  verifyExit,
} from '@partywall/engine';
import { type Command, Option } from 'commander';
import { loadConfig } from '../config-file.ts';
import { type Answer, type CommandContext, connectionString, databaseUrl, type Start } from '../context.ts';
import { liveCatalog, refuseStranger } from '../database.ts';
import { version } from '../version.ts';
import { helpEnding } from './help.ts';

interface VerifyFlags {
  readonly appUrl?: string;
  readonly poolerUrl?: string;
  readonly systemUrl?: string;
  readonly static?: true;
  readonly only?: readonly string[];
  readonly sarif?: true;
  readonly junit?: true;
  readonly baseline?: string;
  readonly writeBaseline?: string;
}

export function registerVerify(program: Command, start: Start): void {
  program
    .command('verify')
    .summary("Prove the wall: static rules, and attacks as the application's role.")
    .description(
      "Prove the wall: rules over the catalog, questions to the data, and attacks as the application's own role over its own connection, " +
        'each with a positive control, all rolled back. What could not be asked is a failure with a status of its own.',
    )
    .option('--app-url <url>', "the application's connection string (default: PARTYWALL_APP_URL)")
    .option('--pooler-url <url>', 'the same through its pooler; attacks are made there too (default: PARTYWALL_POOLER_URL)')
    .option('--system-url <url>', "the application's system client (default: PARTYWALL_SYSTEM_URL)")
    .option('--static', 'rules over the catalog alone: no attacks, no data')
    .option('--only <rule...>', 'only these rules')
    .addOption(new Option('--sarif', 'print SARIF 2.1.0, for code hosts').conflicts(['junit', 'json']))
    .addOption(new Option('--junit', 'print JUnit XML, for CI servers').conflicts(['sarif', 'json']))
    .option('--baseline <file>', 'findings listed in the file are known and do not fail')
    .option('--write-baseline <file>', 'write the findings of this run to the file')
    .addHelpText(
      'after',
      helpEnding({ 0: 'sound', 1: 'findings', 2: 'something could not be asked, which is a failure too' }, [
        'PARTYWALL_APP_URL=postgresql://crm_app:secret@db/crm partywall verify',
        'partywall verify --static --json',
        'partywall verify --sarif > partywall.sarif',
        'partywall verify --write-baseline partywall.baseline.json',
      ]),
    )
    .action(start<VerifyFlags>(run));
}

async function run(ctx: CommandContext, flags: VerifyFlags): Promise<Answer> {
  const { file, model } = await loadConfig(ctx);
  const baseline = flags.baseline === undefined ? undefined : parseBaseline(await readBaseline(path.resolve(ctx.cwd, flags.baseline)));
  const report = await verifyDatabase(ctx, model, {
    ...urls(ctx, flags),
    ...(baseline && { baseline }),
    ...(flags.only && { only: flags.only.map(ruleId) }),
    staticOnly: flags.static ?? false,
  });
  if (flags.writeBaseline !== undefined) {
    const target = path.resolve(ctx.cwd, flags.writeBaseline);
    await fs.writeFile(target, baselineOf(report));
    ctx.talk.line(`wrote ${target}`);
  }
  return { exit: verifyExit(report), data: toJson(report), text: textOf(ctx, flags, report, file) };
}

/** Verifies with progress; `up` ends with it too. */
export async function verifyDatabase(ctx: CommandContext, model: TenancyModel, options: Omit<VerifyOptions, 'model' | 'adminUrl'>): Promise<VerifyReport> {
  const adminUrl = databaseUrl(ctx);
  refuseStranger(model, await liveCatalog(adminUrl, 'verify'));
  return verify({ model, adminUrl, ...options, signal: ctx.signal, onProgress: (event) => showProgress(ctx, event) });
}

const stages: Readonly<Record<VerifyProgress['stage'], string>> = {
  catalog: 'reading the catalog',
  data: 'asking the data',
  direct: 'attacking as the application',
  pooler: 'attacking through the pooler',
};

function showProgress(ctx: CommandContext, { stage, done, total }: VerifyProgress): void {
  ctx.talk.progress({ label: stages[stage], done, total, unit: stage === 'catalog' ? 'steps' : 'tables' });
}

function urls(ctx: CommandContext, flags: VerifyFlags): Pick<VerifyOptions, 'appUrl' | 'poolerUrl' | 'systemUrl'> {
  const pick = (flag: string | undefined, option: string, variable: string): string | undefined => {
    const url = flag ?? ctx.env[variable];
    return url ? connectionString(url, flag === undefined ? variable : option) : undefined;
  };
  const appUrl = pick(flags.appUrl, '--app-url', 'PARTYWALL_APP_URL');
  const poolerUrl = pick(flags.poolerUrl, '--pooler-url', 'PARTYWALL_POOLER_URL');
  const systemUrl = pick(flags.systemUrl, '--system-url', 'PARTYWALL_SYSTEM_URL');
  return { ...(appUrl && { appUrl }), ...(poolerUrl && { poolerUrl }), ...(systemUrl && { systemUrl }) };
}

function textOf(ctx: CommandContext, flags: VerifyFlags, report: VerifyReport, config: string): string {
  if (flags.sarif) return JSON.stringify(toSarif(report, { toolVersion: version, configFile: path.relative(ctx.cwd, config) }), undefined, 2);
  if (flags.junit) return toJunit(report);
  return renderHuman(report, ctx.style);
}

function ruleId(text: string): RuleId {
  if (isRuleId(text)) return text;
  throw new PartywallError('usage', `reading --only: there is no rule ${JSON.stringify(text)}`, { hint: 'docs/guide/verify-rules.md lists them' });
}

async function readBaseline(file: string): Promise<string> {
  try {
    return await fs.readFile(file, 'utf8');
  } catch (cause) {
    if (sqlState(cause) !== 'ENOENT') throw cause;
    throw new PartywallError('config_missing', `reading ${file}: there is no such file`, {
      cause,
      hint: 'write one with `partywall verify --write-baseline <file>`',
    });
  }
}
