import fs from 'node:fs/promises';
import path from 'node:path';
import { appendAudit, controlPool, newPassword, PartywallError, proveCredential, type RotatedRole, setRolePassword, transaction } from '@partywall/engine';
import { type Command, Option } from 'commander';
import { loadConfig } from '../config-file.ts';
import { type Answer, type CommandContext, databaseUrl, type Start } from '../context.ts';
import { keyringFolder, operatorName } from '../control.ts';
import { stateFolder } from '../embedded.ts';
import { changeRoleUrl, secretsFileName } from '../role-secrets.ts';
import { helpEnding } from './help.ts';

interface RotateFlags {
  readonly role: RotatedRole;
  readonly endSessions?: true;
}

export function registerCredentials(program: Command, start: Start): void {
  program
    .command('credentials')
    .summary("Rotate the passwords of the wall's logins.")
    .description("The passwords of the wall's logins: app, system, service.")
    .command('rotate')
    .description(
      'Give a login a new random password, write its connection string to .partywall, and prove it: the old one is refused, the new one accepted, the ' +
        'application still bound by the wall, inside a tenant too. Recorded in the audit log.',
    )
    .addOption(new Option('--role <role>', 'which login').choices(['app', 'system', 'service']).makeOptionMandatory())
    .option('--end-sessions', 'end the sessions that the old password opened')
    .addHelpText(
      'after',
      helpEnding({ 0: 'rotated and proved', 1: 'rotated, and a proof does not hold or could not be had', 2: 'could not be rotated' }, [
        'DATABASE_URL=postgresql://postgres:secret@db/crm partywall credentials rotate --role app --end-sessions',
      ]),
    )
    .action(start<RotateFlags>(rotate));
}

async function rotate(ctx: CommandContext, flags: RotateFlags): Promise<Answer> {
  const { model } = await loadConfig(ctx);
  const url = databaseUrl(ctx);
  const { role, endSessions = false } = flags;
  const password = newPassword();
  const file = await secretsFile(ctx, url);
  const written = await changeRoleUrl(file, url, model, { login: role, password });
  const pool = controlPool(url, { purpose: 'credentials', max: 1 });
  try {
    const { ended } = await transaction(pool, async (client) => {
      const done = await setRolePassword(client, model, { role, password, endSessions });
      const operation = {
        database: { pool, model, clock: () => new Date(), keyring: keyringFolder(ctx) },
        actor: { kind: 'operator' as const, id: operatorName(ctx) },
      };
      await appendAudit(client, operation, { tenant: null, action: 'credentials.rotate', target: `role:${model.roles[role]}`, details: { role, ...done } });
      return done;
    });
    await written.commit();
    const proof = await proveCredential(model, role, written, pool);
    const lines = proof.map(({ claim, holds }) => `${holds === undefined ? 'not asked' : holds ? 'holds' : 'FAILS'}  ${claim}`);
    return {
      exit: proof.every(({ holds }) => holds) ? 0 : 1,
      data: { role: model.roles[role], file, ended, proof },
      text: [...lines, `${model.roles[role]}: new connection string in ${path.relative(ctx.cwd, file)}; ${ended} sessions ended`].join('\n'),
    };
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === '42883') {
      throw new PartywallError('control_missing', 'rotating a password: there is no audit log to record it in', { cause: error });
    }
    throw error;
  } finally {
    await pool.end();
  }
}

/** Where `up` has put the connection strings: of an embedded server, or of this database. */
async function secretsFile(ctx: CommandContext, url: string): Promise<string> {
  const folder = path.join(ctx.cwd, stateFolder);
  const embedded = path.join(folder, 'roles.env');
  const own = path.join(folder, secretsFileName(url));
  return (await fs.access(own).then(
    () => true,
    () => false,
  ))
    ? own
    : embedded;
}
