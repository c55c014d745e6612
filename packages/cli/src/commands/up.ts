import path from 'node:path';
import {
  applyWall,
  assertModelComplete,
  type Catalog,
  changeSeal,
  connect,
  describeTarget,
  PartywallError,
  planWall,
  readSealState,
  renderConfig,
  renderHuman,
  type TenancyModel,
  toJson,
  type VerifyReport,
  verifyExit,
} from '@partywall/engine';
import { type Command, InvalidArgumentError } from 'commander';
import { configName, findConfig, loadConfig } from '../config-file.ts';
import { confirmed } from '../confirm.ts';
import { type Answer, type CommandContext, databaseUrl, type Start } from '../context.ts';
import { operatorName } from '../control.ts';
import { liveCatalog, refuseStranger } from '../database.ts';
import { startTrial, stateFolder, type Trial } from '../embedded.ts';
import { onlyPhase, planText } from '../plan-text.ts';
import { keepSealKey, type RoleSecrets, roleSecrets, sealKeyVariable, secretsFileName } from '../role-secrets.ts';
import { helpEnding } from './help.ts';
import { countScopes, describeCounts, inferAll, writeConfig } from './init.ts';
import { showProgress } from './progress-of.ts';
import { verifyDatabase } from './verify.ts';

interface UpFlags {
  readonly embeddedOnly?: true;
  readonly port?: number;
  readonly root?: string;
  readonly quarantine?: true;
  readonly allow?: readonly string[];
  readonly skipGate?: true;
  readonly yes?: true;
}

export function registerUp(program: Command, start: Start): void {
  program
    .command('up')
    .summary('Bring a database under the wall: infer, check, expand, switch, contract, verify.')
    .description(
      'Bring a database under the wall: infer the model where there is no config, check, expand, ask who is connected, contract, verify. ' +
        'Run again, it continues where it stopped; on a walled database it verifies. Without DATABASE_URL it starts an embedded PostgreSQL in ' +
        '.partywall/postgres, for a trial. Passwords of the roles that it makes are kept in .partywall, readable by you only.',
    )
    .option('--embedded-only', 'only start the embedded server and print its connection string')
    .option('--port <port>', 'port of the embedded server (default: one that is free)', parsePort)
    .option('--root <table>', 'the tenant root, where it cannot be told')
    .option('--quarantine', 'take rows that cross tenants, or have none, aside into partywall.quarantine')
    .option('--allow <role...>', 'roles whose connections do not stop the switch')
    .option('--skip-gate', 'contract although the application has not been seen on its role')
    .option('--yes', 'contract without asking')
    .addHelpText(
      'after',
      helpEnding(
        {
          0: 'the wall stands and is sound',
          1: 'it stopped at a question, at live connections, at rows in trouble, or verify found something',
          2: 'could not run',
        },
        ['partywall up --embedded-only', 'DATABASE_URL=postgresql://postgres:secret@db/crm partywall up', 'partywall up --yes'],
      ),
    )
    .action(start<UpFlags>(up));
}

async function up(ctx: CommandContext, flags: UpFlags): Promise<Answer> {
  const given = ctx.options.url ?? ctx.env['DATABASE_URL'];
  if (given && !flags.embeddedOnly) return raise({ ...ctx, options: { ...ctx.options, url: databaseUrl(ctx) } }, flags, undefined);
  const trial = await startTrial(ctx, flags);
  if (flags.embeddedOnly) return { exit: 0, data: { url: trial.server.url }, text: trial.server.url, serve: trial.serve };
  try {
    const answer = await raise({ ...ctx, options: { ...ctx.options, url: trial.server.url } }, flags, trial);
    return { ...answer, serve: trial.serve };
  } catch (error) {
    if (!trial.server.adopted) await trial.server.stop();
    throw error;
  }
}

/** The phases in order. Each is a no-op where it was done before, so running again continues. */
async function raise(ctx: CommandContext, flags: UpFlags, trial: Trial | undefined): Promise<Answer> {
  const url = databaseUrl(ctx);
  const say = (phase: string, text: string): void => ctx.talk.line(`${ctx.talk.style('bold', phase.padEnd(9))} ${text}`);
  say('database', describeTarget(url));
  const catalog = await liveCatalog(url, 'up');
  const model = await modelOf(ctx, flags, catalog, trial, say);
  refuseStranger(model, catalog);
  assertModelComplete(model, catalog);
  say('check', `the model covers ${catalog.database}`);

  const secrets = await roleSecrets(path.join(ctx.cwd, stateFolder, trial ? 'roles.env' : secretsFileName(url)), url, model, catalog);
  const shared = {
    url,
    model,
    quarantine: flags.quarantine ?? false,
    signal: ctx.signal,
    onProgress: (event: Parameters<typeof showProgress>[1]) => showProgress(ctx, event),
  };
  const expand = await applyWall({ ...shared, phase: 'expand', passwords: secrets.passwords });
  say('expand', steps(expand.applied.length));
  const key = await firstSealKey(ctx, model, secrets);
  if (key) say('seal', `a key is in ${path.relative(ctx.cwd, secrets.file)}`);

  await askBeforeContract(ctx, flags, model, trial);
  // Nobody is connected to a trial server but whoever tries it: there is no application to wait for.
  const contract = await applyWall({ ...shared, phase: 'contract', skipGate: trial !== undefined || (flags.skipGate ?? false), allow: flags.allow ?? [] });
  say('contract', steps(contract.applied.length));

  const report = await verifyDatabase(ctx, model, connections(ctx, secrets));
  say('verify', `${report.findings.length} findings, ${report.residuals.length} residual risks, ${report.couldNotRun.length} could not run`);
  return answerOf(ctx, model, secrets, report, expand.applied.length + contract.applied.length);
}

async function modelOf(
  ctx: CommandContext,
  flags: UpFlags,
  catalog: Catalog,
  trial: Trial | undefined,
  say: (phase: string, text: string) => void,
): Promise<TenancyModel> {
  if ((await findConfig(ctx)) !== undefined) {
    const { file, model } = await loadConfig(ctx);
    say('model', file);
    return model;
  }
  if (trial && catalog.relations.size === 0) {
    throw new PartywallError('root_undecided', 'inferring the model: the embedded database is empty', {
      hint: 'run `partywall up --embedded-only`, load your schema at the URL it prints, then run `partywall up` in another terminal',
    });
  }
  const inferred = inferAll(catalog, flags);
  const file = path.resolve(ctx.cwd, ctx.options.config ?? configName);
  await writeConfig(file, renderConfig(inferred));
  say('model', `wrote ${file}: ${describeCounts(countScopes(inferred))}`);
  return inferred.model;
}

async function askBeforeContract(ctx: CommandContext, flags: UpFlags, model: TenancyModel, trial: Trial | undefined): Promise<void> {
  if (trial || flags.yes) return;
  const url = databaseUrl(ctx);
  const plan = onlyPhase(planWall(model, await liveCatalog(url, 'up')), 'contract');
  if (plan.steps.length === 0) return;
  ctx.talk.line(planText(plan, { style: ctx.talk.style }));
  await confirmed(ctx, flags, `contract ${describeTarget(url)} in ${plan.steps.length} steps`);
}

/**
 * Makes the first key of the seal where there is none, so that the application has it from its first start; sealing is the operator's to say. Where the
 * context cannot be protected, or the role that is connected does not own the wall, there is none.
 */
async function firstSealKey(ctx: CommandContext, model: TenancyModel, { file }: RoleSecrets): Promise<boolean> {
  const client = await connect(databaseUrl(ctx), { purpose: 'up' });
  try {
    const { keys, isProtected } = await readSealState(client, model.roles.app);
    if (keys.length > 0 || !isProtected) return false;
    await changeSeal(client, model, { kind: 'rotate' }, { actor: { kind: 'operator', id: operatorName(ctx) }, onKey: (key) => keepSealKey(file, key) });
    return true;
  } catch (error) {
    if (error instanceof PartywallError && error.code === 'permission_missing') return false;
    throw error;
  } finally {
    await client.end();
  }
}

/** The application's own connection string wins over the one made from a new password. */
function connections(ctx: CommandContext, secrets: RoleSecrets): { appUrl?: string; systemUrl?: string; poolerUrl?: string } {
  const appUrl = ctx.env['PARTYWALL_APP_URL'] ?? secrets.urls.app;
  const systemUrl = ctx.env['PARTYWALL_SYSTEM_URL'] ?? secrets.urls.system;
  const poolerUrl = ctx.env['PARTYWALL_POOLER_URL'];
  return { ...(appUrl && { appUrl }), ...(systemUrl && { systemUrl }), ...(poolerUrl && { poolerUrl }) };
}

function answerOf(ctx: CommandContext, model: TenancyModel, secrets: RoleSecrets, report: VerifyReport, applied: number): Answer {
  const connect =
    secrets.urls.app === undefined
      ? [`connect the application as ${model.roles.app} through a walled pool`]
      : [
          `connect the application as ${model.roles.app} through a walled pool; its connection string is in ${path.relative(ctx.cwd, secrets.file)}`,
          `with \`seal: process.env.${sealKeyVariable}\` in the pool, \`partywall seal on\` keeps injected SQL inside its tenant`,
        ];
  return {
    exit: verifyExit(report),
    data: { database: report.database, applied, secrets: secrets.file, verify: toJson(report) },
    text: [renderHuman(report, ctx.style).trimEnd(), '', ...connect].join('\n'),
  };
}

function steps(count: number): string {
  return count === 0 ? 'nothing to do' : `${count} steps applied`;
}

function parsePort(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port < 1 || port > 65_535) throw new InvalidArgumentError('a port is a number from 1 to 65535');
  return port;
}
