import type pg from 'pg';
import { sqlState } from '../db/connect.ts';
import { dollarQuote, ident, literal } from '../db/sql.ts';
import { PartywallError } from '../errors.ts';
import type { TenancyModel } from '../model/model.ts';
import { boundSignature, closeBoundSql, restorerGrantsSql, restorerRole } from '../tenants/transfer/bound.ts';

/**
 * Makes the role that restores run as (`tenants/transfer/bound.ts`), without login.
 *
 * @param client as the role that installs, before it becomes the owner
 * @throws PartywallError permission_missing
 */
export async function makeRestorer(client: pg.ClientBase, model: TenancyModel): Promise<void> {
  const role = restorerRole(model);
  await asInstaller(
    client,
    model,
    `if not exists (select from pg_catalog.pg_roles where rolname = ${literal(role)}) then
    begin
      create role ${ident(role)} nologin;
    exception when duplicate_object or unique_violation then null; -- another database of the cluster was first
    end;
  end if;
  if exists (select from pg_catalog.pg_roles where rolname = ${literal(role)} and (rolcanlogin or rolsuper or rolbypassrls)) then
    raise insufficient_privilege using message = 'a role of this name is there, which no policy binds or which can log in';
  end if;`,
  );
}

/**
 * Gives the function to its role, and the role its rights on the application's tables. The installing role has to be a member of a role that it
 * gives things to; it is one for these statements alone.
 *
 * @param client as the role that installs
 * @param owner of the control plane
 */
export async function giveToRestorer(client: pg.ClientBase, model: TenancyModel, owner: string): Promise<void> {
  const role = ident(restorerRole(model));
  await asInstaller(
    client,
    model,
    `if (select rolsuper from pg_catalog.pg_roles where rolname = current_user) or pg_catalog.pg_has_role(current_user, ${literal(restorerRole(model))}, 'usage') then
    alter function ${boundSignature} owner to ${role};
  else
    execute pg_catalog.format('grant ${role.replaceAll('%', '%%')} to %I', current_user);
    alter function ${boundSignature} owner to ${role};
    execute pg_catalog.format('revoke ${role.replaceAll('%', '%%')} from %I', current_user);
  end if;`,
  );
  await client.query(restorerGrantsSql(model));
  await client.query(`set local role ${ident(owner)}`);
  await client.query(closeBoundSql(model));
  await client.query('set local role none');
}

async function asInstaller(client: pg.ClientBase, model: TenancyModel, statements: string): Promise<void> {
  try {
    await client.query(`do ${dollarQuote(`begin\n  ${statements}\nend`)}`);
  } catch (cause) {
    if (sqlState(cause) !== '42501') throw cause;
    throw new PartywallError(
      'permission_missing',
      `making role ${restorerRole(model)}, which restores run as: ${cause instanceof Error ? cause.message : ''}`,
      {
        cause,
        hint: 'connect as a superuser, or as a role with CREATEROLE that made the service role: docs/guide/restore.md',
      },
    );
  }
}
