import type pg from 'pg';
import { describeTarget } from '../../db/connect.ts';
import { controlPool } from '../../db/control-pool.ts';
import type { ControlDatabase, Operation } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import { assertControl } from '../../schema/install-control.ts';

const namePattern = /^[a-z][a-z0-9_]{0,39}$/;
const connectionsMax = 4;
const variablePrefix = 'PARTYWALL_PLACEMENT_';

/** What the registry of a placement says of a tenant that has gone back. */
export const home = 'home';

/** The other databases that tenants can be placed in, each opened when it is first needed. */
export interface Placements {
  /** @throws PartywallError placement_unknown, control_missing, control_foreign */
  open(name: string): Promise<Placement>;
  close(): Promise<void>;
}

export interface Placement {
  readonly name: string;
  /** `user@host:port/database`. */
  readonly description: string;
  readonly pool: pg.Pool;
}

/**
 * Placements as the environment has them: PARTYWALL_PLACEMENT_ACME is the service role's connection string of placement `acme`. The database
 * knows their names alone.
 */
export function placementsOf(env: Readonly<Record<string, string | undefined>>): Placements {
  const opened = new Map<string, Promise<Placement>>();
  const pools: pg.Pool[] = [];
  const connect = async (name: string): Promise<Placement> => {
    const variable = `${variablePrefix}${name.toUpperCase()}`;
    const url = namePattern.test(name) && name !== home ? env[variable] : undefined;
    if (!url) {
      throw new PartywallError('placement_unknown', `looking for placement ${JSON.stringify(name.slice(0, 100))}: there is none`, {
        hint: `set ${namePattern.test(name) && name !== home ? variable : `${variablePrefix}<NAME>`} to the service role's connection string of that database`,
      });
    }
    const pool = controlPool(url, { purpose: 'placement', max: connectionsMax });
    pools.push(pool);
    await assertControl(pool);
    return { name, description: describeTarget(url), pool };
  };
  return {
    open: (name) => {
      const known = opened.get(name) ?? connect(name);
      opened.set(name, known);
      // One that could not be reached is tried again.
      known.catch(() => opened.delete(name));
      return known;
    },
    close: async () => {
      await Promise.all(pools.map((pool) => pool.end()));
    },
  };
}

/** The same operation, done to the placement. */
export function operationIn(operation: Operation, { pool }: Placement): Operation {
  const database: ControlDatabase = { ...operation.database, pool };
  return { ...operation, database };
}
