import type pg from 'pg';
import type { TenancyModel } from '../model/model.ts';

/** What the live connections say about the switch: every one is the application's on its own role, or somebody who may stay. */
export interface GateReport {
  readonly passed: boolean;
  /** Sessions of the application's role. */
  readonly switched: readonly GateSession[];
  /** Sessions whose role contract would break or that reach around the wall. */
  readonly remaining: readonly GateSession[];
  readonly message: string;
}

export interface GateSession {
  readonly role: string;
  readonly application: string;
  readonly address: string;
  readonly count: number;
}

/**
 * Reads the sessions of the connected database. Sessions of the app, system and service roles have switched; Partywall's own
 * (application name `partywall ...`) and roles in `allow` are left aside; every other client session remains.
 */
export async function switchGate(client: pg.ClientBase, model: TenancyModel, options: { allow?: readonly string[] } = {}): Promise<GateReport> {
  const { rows } = await client.query<GateSession>(`select coalesce(a.usename::text, '') as role, coalesce(a.application_name, '') as application,
      coalesce(host(a.client_addr), 'local') as address, count(*)::int as count
    from pg_catalog.pg_stat_activity a
    where a.datname = current_database() and a.usename is not null and a.pid <> pg_backend_pid()
      -- Whoever may not read others' statistics sees no type, and must not take a session for none.
      and coalesce(a.backend_type, 'client backend') = 'client backend'
    group by 1, 2, 3 order by 1, 2, 3`);
  const ours = new Set([model.roles.system, model.roles.service, ...(options.allow ?? [])]);
  const switched = rows.filter((session) => session.role === model.roles.app);
  const remaining = rows.filter((session) => session.role !== model.roles.app && !ours.has(session.role) && !session.application.startsWith('partywall'));
  if (remaining.length > 0) {
    const count = remaining.reduce((sum, session) => sum + session.count, 0);
    return { passed: false, switched, remaining, message: `${count} ${count === 1 ? 'connection is' : 'connections are'} not on the wall's roles yet` };
  }
  if (switched.length === 0) {
    return { passed: false, switched, remaining, message: `no connection as ${model.roles.app} yet: the application has not moved, or is not running` };
  }
  return { passed: true, switched, remaining, message: `every connection is on the wall's roles` };
}

/** A session as a line: `4 × crm_owner "legacy api" from 10.0.0.7`. */
export function describeSession(session: GateSession): string {
  return `${session.count} × ${session.role}${session.application ? ` ${JSON.stringify(session.application)}` : ''} from ${session.address}`;
}
