import type pg from 'pg';
import { WallError, WallNotHeldError } from '../errors.ts';

/**
 * Before an observing pool hands out its first connection: its role must be one that no policy binds, else observing would change results, and one
 * that may report. It is another login than the application's, which cannot become it: the boot gate refuses an application's role that can.
 */
export class ObserverGate {
  #open = false;

  /** @throws WallNotHeldError */
  async pass(client: pg.ClientBase): Promise<void> {
    if (this.#open) return;
    try {
      const { rows } = await client.query<{ role: string; unbound: boolean; grants: boolean | null }>(roleSql);
      const [role] = rows;
      if (!role?.unbound)
        refuse(role?.role, 'the policies bind it, so that observing would hide rows', 'pass the connection string of the system role of the model');
      if (!role?.grants) refuse(role?.role, 'it may not report what it observes', 'pass the connection string of the system role, and run `partywall apply`');
    } catch (cause) {
      if (cause instanceof WallError) throw cause;
      throw new WallNotHeldError({ message: `checking the role that observes: ${cause instanceof Error ? cause.message : cause}`, cause });
    }
    this.#open = true;
  }
}

function refuse(role: string | undefined, reason: string, hint: string): never {
  throw new WallNotHeldError({ message: `observing as role ${JSON.stringify(role ?? '')}: ${reason}`, hint });
}

const roleSql = `select current_user::text as role,
  (select r.rolsuper or r.rolbypassrls from pg_catalog.pg_roles r where r.rolname = current_user) and pg_catalog.current_setting('row_security') = 'on' as unbound,
  (select pg_catalog.bool_and(pg_catalog.has_function_privilege(p.oid, 'EXECUTE')) and count(*) = 2 from pg_catalog.pg_proc p
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace where n.nspname = 'partywall' and p.proname in ('observe', 'report_observations')) as grants`;
