import { randomBytes } from 'node:crypto';
import { type Operation, PartywallError } from '@partywall/engine';
import type { SuperAdmin } from '@partywall/server';
import type { Command } from 'commander';
import type { Answer, CommandContext, Start } from '../context.ts';
import { withControl } from '../control.ts';
import { helpEnding } from './help.ts';

interface CreateFlags {
  readonly email: string;
  readonly name?: string;
  readonly generate?: true;
  readonly existing?: true;
}

export const passwordVariable = 'PARTYWALL_ADMIN_PASSWORD';
const generatedBytes = 18;

export function registerAdmin(program: Command, start: Start): void {
  const admin = program
    .command('admin')
    .summary('Make and list super-admins, who may do everything over HTTP.')
    .description('Super-admins: the people who operate the control plane. The first one is made here; there is no default password.');

  admin
    .command('create')
    .description(`Make a super-admin. The password comes from ${passwordVariable}, or is generated and printed once; it is never an argument.`)
    .requiredOption('--email <address>', 'what they sign in with')
    .option('--name <name>', 'what they are called (default: the address)')
    .option('--generate', 'generate the password and print it')
    .option('--existing', 'promote the person who has that address; their password stays')
    .addHelpText(
      'after',
      helpEnding({ 0: 'made', 2: 'could not be made' }, [
        'partywall admin create --email ops@example.com --name "Operations" --generate',
        'partywall admin create --email ann@example.com --existing',
      ]),
    )
    .action(start<CreateFlags>((ctx, flags) => withControl(ctx, (operation) => create(ctx, operation, flags))));

  admin
    .command('list')
    .description('List all super-admins.')
    .addHelpText('after', helpEnding({ 0: 'listed', 2: 'could not be asked' }, ['partywall admin list']))
    .action(start((ctx) => withControl(ctx, list)));
}

async function create(ctx: CommandContext, operation: Operation, flags: CreateFlags): Promise<Answer> {
  const { email, name = email } = flags;
  if (!/^[^\s@\0]+@[^\s@\0]+$/.test(email)) throw new PartywallError('input_invalid', `reading --email: ${JSON.stringify(email)} is no e-mail address`);
  const { createSuperAdmin, passwordLength } = await server();
  const password = flags.existing ? undefined : passwordOf(ctx, flags, passwordLength);
  const made = await createSuperAdmin(operation, { email, name, password });
  const generated = flags.generate && !flags.existing ? password : undefined;
  return {
    exit: 0,
    data: { ...made, ...(generated !== undefined && { password: generated }) },
    text: [`${made.email} is super-admin`, ...(generated === undefined ? [] : [`password, shown this once: ${generated}`])].join('\n'),
  };
}

/** A new person's password. @throws PartywallError usage, input_invalid */
export function passwordOf(ctx: CommandContext, flags: Pick<CreateFlags, 'generate'>, passwordLength: { readonly min: number; readonly max: number }): string {
  if (flags.generate) return randomBytes(generatedBytes).toString('base64url');
  const password = ctx.env[passwordVariable];
  if (!password) {
    throw new PartywallError('usage', 'making a person: no password given', { hint: `set ${passwordVariable}, or pass --generate` });
  }
  if (password.length < passwordLength.min || password.length > passwordLength.max) {
    throw new PartywallError('input_invalid', `reading ${passwordVariable}: a password has ${passwordLength.min} to ${passwordLength.max} characters`);
  }
  return password;
}

async function list(operation: Operation): Promise<Answer> {
  const { listSuperAdmins } = await server();
  const admins = await listSuperAdmins(operation.database.pool);
  return {
    exit: 0,
    data: { items: admins },
    text: admins.length === 0 ? 'no super-admins; make one with `partywall admin create`' : admins.map(line).join('\n'),
  };
}

/** Loaded when it is needed, so that the other verbs start without a web server. */
function server(): Promise<typeof import('@partywall/server')> {
  return import('@partywall/server');
}

function line({ email, name, createdAt }: SuperAdmin): string {
  return `${createdAt.toISOString()}  ${email}  ${JSON.stringify(name)}`;
}
