import type pg from 'pg';
import { TenantPlacedElsewhereError, type WallError } from './errors.ts';
import { sayFailed } from './listener.ts';

/** Where the tenants of a placement are: a connection string, or what `pg.Pool` takes. */
export type PlacementConfig = string | pg.PoolConfig;

export interface PlacementOptions {
  /**
   * Databases that tenants may be placed in, by the name of the placement. Given, the pool sends what a placed tenant does to its database;
   * without, it is refused with `TenantPlacedElsewhereError`. A function that throws knows none.
   */
  readonly placements?: Readonly<Record<string, PlacementConfig>> | ((name: string) => PlacementConfig | undefined);
}

/** About 150 bytes each. */
const tenantsMax = 10_000;
/** Each is a pool of connections. */
const placementsMax = 100;

/** What tells one database from another; everything else that a pool was given holds for its placements too. */
const targetOptions: readonly string[] = ['connectionString', 'host', 'port', 'user', 'password', 'database', 'ssl', 'placements', 'rollout'];

/**
 * Which tenants live in which other database, as far as this process has been told.
 *
 * Only the first database is asked where a tenant is; it says so when it refuses to let the tenant in (`PW006`). A placement that refuses a tenant
 * makes the process forget, and the first database is asked again: so a move is learned both ways, in two refusals at most. A refused entry
 * has run nothing, so what was refused can be sent elsewhere; nothing else is ever sent twice.
 */
export class Placements<Pool extends { end(): Promise<void> }> {
  readonly #placements: NonNullable<PlacementOptions['placements']>;
  readonly #open: (config: pg.PoolConfig, name: string) => Pool;
  readonly #byTenant = new Map<string, string>();
  readonly #pools = new Map<string, Pool>();
  readonly #refusals = new WeakSet<object>();

  constructor(placements: NonNullable<PlacementOptions['placements']>, open: (config: pg.PoolConfig, name: string) => Pool) {
    this.#placements = placements;
    this.#open = open;
  }

  /** The pool of the tenant's placement, made when it is first needed; undefined for a tenant that is not known to be placed. */
  poolOf(tenant: string): Pool | undefined {
    const name = this.#byTenant.get(tenant);
    return name === undefined ? undefined : (this.#pools.get(name) ?? this.#make(name));
  }

  /** The database of `placement`, the first one where undefined, has not let the tenant in. */
  refused(tenant: string, error: WallError, placement: string | undefined): void {
    this.#refusals.add(error);
    if (placement !== undefined) {
      this.#byTenant.delete(tenant);
      return;
    }
    const told = error instanceof TenantPlacedElsewhereError ? error.placement : null;
    if (told === null || this.#configOf(told) === undefined) return;
    if (this.#byTenant.size >= tenantsMax) this.#byTenant.clear();
    this.#byTenant.set(tenant, told);
  }

  /** Whether the error refused an entry, so that nothing has run. */
  isRefusal(error: unknown): boolean {
    return typeof error === 'object' && error !== null && this.#refusals.has(error);
  }

  async end(): Promise<void> {
    await Promise.all([...this.#pools.values()].map((pool) => pool.end()));
  }

  #make(name: string): Pool | undefined {
    const config = this.#configOf(name);
    if (config === undefined) return undefined;
    if (this.#pools.size >= placementsMax) {
      throw new TenantPlacedElsewhereError({ message: `opening placement ${JSON.stringify(name)}: ${placementsMax} are open` });
    }
    const pool = this.#open(typeof config === 'string' ? { connectionString: config } : config, name);
    this.#pools.set(name, pool);
    return pool;
  }

  #configOf(name: string): PlacementConfig | undefined {
    const placements = this.#placements;
    if (typeof placements === 'function') {
      try {
        return placements(name);
      } catch (error) {
        sayFailed('placements', placements, error);
        return undefined;
      }
    }
    return Object.hasOwn(placements, name) ? placements[name] : undefined;
  }
}

/** The options of the first pool that hold for every database. */
export function withoutTarget(config: pg.PoolConfig): pg.PoolConfig {
  return Object.fromEntries(Object.entries(config).filter(([name]) => !targetOptions.includes(name)));
}
