import {
  cancelTenant,
  holdTenant,
  listTenants,
  type Operation,
  PartywallError,
  provisionTenant,
  reactivateTenant,
  restoreTenant,
  type ShownTenant,
  showTenant,
  suspendTenant,
  type Tenant,
  type TenantOrder,
  type TenantStatus,
  type Transitioned,
  tenantOrders,
  tenantStatuses,
  unholdTenant,
} from '@partywall/engine';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Answer, CommandContext, Start } from '../context.ts';
import { withControl } from '../control.ts';
import { helpEnding } from './help.ts';

const limitDefault = 50;
const limitMax = 1_000;
const passwordVariable = 'PARTYWALL_ADMIN_PASSWORD';

interface ListFlags {
  readonly search?: string;
  readonly status?: TenantStatus;
  readonly plan?: string;
  readonly sort: TenantOrder;
  readonly limit: number;
}

interface ProvisionFlags {
  readonly contactEmail: string;
  readonly adminName: string;
  readonly adminEmail: string;
  readonly plan: string;
}

interface Reasoned {
  readonly reason?: string;
}

/** The verbs of tenants; deleting them is in tenants-delete.ts. */
export function registerTenants(program: Command, start: Start): void {
  const tenants = tenantsCommand(program);

  tenants
    .command('list')
    .description('List tenants, latest first.')
    .option('--search <text>', 'part of the name or contact address, or the beginning of the key')
    .addOption(new Option('--status <status>', 'only those in this status').choices(tenantStatuses))
    .option('--plan <plan>', 'only those on this plan')
    .addOption(new Option('--sort <order>', 'order').choices(tenantOrders).default('created'))
    .option('--limit <count>', `how many, up to ${limitMax}`, parseLimit, limitDefault)
    .addHelpText('after', helpEnding({ 0: 'listed', 2: 'could not be asked' }, ['partywall tenants list', 'partywall tenants list --search acme --json']))
    .action(start<ListFlags>((ctx, flags) => withControl(ctx, (operation) => list(operation, flags))));

  tenants
    .command('show')
    .description('Show a tenant: status, plan, retention, legal hold, and what the wall says.')
    .argument('<tenant>', 'key of the tenant')
    .addHelpText('after', helpEnding({ 0: 'shown', 2: 'there is none, or it could not be asked' }, ['partywall tenants show <id>']))
    .action((tenant: string, ...given: unknown[]) =>
      start((ctx) => withControl(ctx, async (operation) => shown(await showTenant(operation, tenant))))(...given),
    );

  tenants
    .command('provision')
    .description(`Make a tenant with its first admin and its plan. The admin's password is read from ${passwordVariable}.`)
    .argument('<name>', 'name of the tenant')
    .requiredOption('--contact-email <address>', 'whom to write to')
    .requiredOption('--admin-name <name>', 'name of the first admin')
    .requiredOption('--admin-email <address>', 'what the first admin signs in with')
    .option('--plan <plan>', 'its plan', 'free')
    .addHelpText(
      'after',
      helpEnding({ 0: 'made, or found as asked for before', 1: 'the name is taken', 2: 'could not be made' }, [
        `${passwordVariable}=secure_password partywall tenants provision 'New Company' --contact-email contact@newcompany.com --admin-name 'Admin User' --admin-email admin@newcompany.com --plan pro`,
      ]),
    )
    .action((name: string, ...given: unknown[]) => start<ProvisionFlags>((ctx, flags) => provision(ctx, name, flags))(...given));

  for (const { verb, act, description } of transitions) {
    tenants
      .command(verb)
      .description(description)
      .argument('<tenant>', 'key of the tenant')
      .option('--reason <text>', 'why, for the audit log')
      .addHelpText(
        'after',
        helpEnding({ 0: 'done, or so already', 1: 'not possible from the state it is in', 2: 'there is none, or it could not be asked' }, [
          `partywall tenants ${verb} <id> --reason 'asked by the customer'`,
        ]),
      )
      .action((tenant: string, ...given: unknown[]) =>
        start<Reasoned>((ctx, { reason }) => withControl(ctx, async (operation) => moved(await act(operation, { tenant, reason }))))(...given),
      );
  }

  for (const { verb, act, description } of holds) {
    tenants
      .command(verb)
      .description(description)
      .argument('<tenant>', 'key of the tenant')
      .requiredOption('--reason <text>', 'why; it is recorded')
      .addHelpText(
        'after',
        helpEnding({ 0: 'done, or so already', 1: 'it is being erased', 2: 'there is none, or it could not be asked' }, [
          `partywall tenants ${verb} <id> --reason 'case 2041'`,
        ]),
      )
      .action((tenant: string, ...given: unknown[]) =>
        start<{ reason: string }>((ctx, { reason }) => withControl(ctx, async (operation) => held(await act(operation, { tenant, reason }))))(...given),
      );
  }
}

/** The group that the verbs of tenants belong to, whichever module comes first. */
export function tenantsCommand(program: Command): Command {
  return (
    program.commands.find((command) => command.name() === 'tenants') ??
    program.command('tenants').summary('Provision, suspend, delete and look after tenants.').description('The life of tenants.')
  );
}

const transitions = [
  { verb: 'suspend', act: suspendTenant, description: 'Keep a tenant out at once: sessions, API keys, jobs and raw SQL.' },
  { verb: 'reactivate', act: reactivateTenant, description: 'Let a suspended tenant in again, or a cancelled one that is still retained.' },
  { verb: 'cancel', act: cancelTenant, description: 'End a subscription; the tenant is kept out and retained as long as its plan says.' },
  { verb: 'restore', act: restoreTenant, description: 'Bring back a tenant that was softly deleted and is still retained.' },
] as const;

const holds = [
  { verb: 'hold', act: holdTenant, description: 'Keep a tenant from being deleted, until the hold is lifted.' },
  { verb: 'unhold', act: unholdTenant, description: 'Lift a legal hold.' },
] as const;

async function list(operation: Operation, { limit, sort, ...filters }: ListFlags): Promise<Answer> {
  const rows = await listTenants(operation, { ...filters, order: sort, limit });
  const tenants = rows.slice(0, limit).map(({ cursor: _, ...tenant }) => tenant);
  const width = Math.max(0, ...tenants.map(({ id }) => id.length));
  const lines = tenants.map(({ id, status, plan, name }) => `${id.padEnd(width)}  ${status.padEnd(9)}  ${plan.padEnd(10)}  ${printable(name)}`);
  if (rows.length > limit) lines.push(`… more than ${limit}; narrow the list with --search, --status or --plan, or raise --limit`);
  return { exit: 0, data: { tenants, more: rows.length > limit }, text: lines.length === 0 ? 'no tenants' : lines.join('\n') };
}

async function provision(ctx: CommandContext, name: string, flags: ProvisionFlags): Promise<Answer> {
  const password = ctx.env[passwordVariable];
  if (!password) {
    throw new PartywallError('usage', `provisioning a tenant: ${passwordVariable} is not set`, {
      hint: 'a password on the command line can be seen by others',
    });
  }
  // Loaded here, so that the other verbs start without a web server.
  const { hashPassword, passwordLength } = await import('@partywall/server');
  if (password.length < passwordLength.min || password.length > passwordLength.max) {
    throw new PartywallError('input_invalid', `reading ${passwordVariable}: a password has ${passwordLength.min} to ${passwordLength.max} characters`);
  }
  return withControl(ctx, async (operation) => {
    const { tenant, created } = await provisionTenant(operation, { name, ...flags, hashPassword: () => hashPassword(password) });
    return { exit: 0, data: { tenant, created }, text: `${created ? 'provisioned' : 'there already'}: ${printable(tenant.name)} (${tenant.id})` };
  });
}

function moved({ tenant, changed, ended }: Transitioned): Answer {
  const what = `${printable(tenant.name)} (${tenant.id}) ${changed ? 'is now' : 'was already'} ${tenant.status}`;
  const until = tenant.retainedUntil ? `; it can be brought back until ${tenant.retainedUntil.toISOString()}` : '';
  const sessions = ended > 0 ? `; ${ended} ${ended === 1 ? 'session was' : 'sessions were'} ended` : '';
  return { exit: 0, data: { tenant, changed, endedSessions: ended }, text: `${what}${until}${sessions}` };
}

function held(tenant: Tenant): Answer {
  const state = tenant.hold ? `is under a legal hold since ${tenant.hold.since.toISOString()}` : 'is under no legal hold';
  return { exit: 0, data: { tenant }, text: `${printable(tenant.name)} (${tenant.id}) ${state}` };
}

function shown(tenant: ShownTenant): Answer {
  const { wall } = tenant;
  const rows = [
    ['key', tenant.id],
    ['name', printable(tenant.name)],
    ['status', `${tenant.status}${tenant.reason === null ? '' : ` (${printable(tenant.reason)})`} since ${tenant.statusChangedAt.toISOString()}`],
    ['plan', tenant.plan],
    ['contact', printable(tenant.contactEmail ?? '-')],
    ['wall', wall ? `${wall.state}${wall.placement === null ? '' : `, placed in ${wall.placement}`}` : 'not registered'],
    ['created', tenant.createdAt.toISOString()],
    ...(tenant.retainedUntil ? [['retained', `until ${tenant.retainedUntil.toISOString()}`]] : []),
    ...(tenant.hold ? [['legal hold', `${printable(tenant.hold.reason)}, since ${tenant.hold.since.toISOString()}`]] : []),
  ];
  return { exit: 0, data: tenant, text: rows.map(([label = '', value]) => `${label.padEnd(10)}  ${value}`).join('\n') };
}

/** A tenant chooses its name: escape sequences in it must not reach the operator's terminal. */
export function printable(text: string): string {
  return text.replaceAll(/[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu, '\ufffd');
}

function parseLimit(text: string): number {
  const limit = Number(text);
  if (!/^\d+$/.test(text) || limit < 1 || limit > limitMax) throw new InvalidArgumentError(`a number from 1 to ${limitMax}`);
  return limit;
}
