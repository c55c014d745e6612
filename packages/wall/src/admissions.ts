import type { Sealer } from './seal/sealer.ts';

/**
 * Which tenants the database admitted, and under which number of the last change of any tenant's state (`partywall.enter_since`). As long
 * as the number is the current one, entering such a tenant again needs no look at the registry. The number is the database's to
 * compare: an entry that has become stale costs one look, never an admission.
 *
 * Each entry is the protocol messages that enter the tenant, ready to be sent, because they are the same every time: with a seal, until half
 * of its life has passed.
 */
export interface Admission {
  readonly tenant: string;
  readonly unit: string | undefined;
  /** The number as the database printed it, null where it has none for this tenant. */
  readonly seen: string | null;
  readonly statement: EnterStatement;
  /** Bind and Execute, for a named statement; with Parse before them for the unnamed one. */
  readonly messages: Buffer;
  /** When the messages are good for nothing any more, in milliseconds of the sealer's clock; undefined without a seal. */
  readonly made?: { readonly at: number; readonly renewAt: number } | undefined;
}

/** What enters a tenant, with the parameters that the messages bind. */
export interface EnterStatement {
  /** Of the prepared statement; empty where a pooler cannot keep one. */
  readonly name: string;
  readonly text: string;
}

/** About 300 bytes each, 500 with a seal. */
const admissionsMax = 10_000;

const statements = {
  partywall_enter: 'partywall.enter_since($1, $2)',
  partywall_enter_unit: 'partywall.enter_unit($1, $2, $3)',
  partywall_enter_sealed: 'partywall.enter_sealed($1, $2, $3, $4, $5, $6)',
} as const;

export class Admissions {
  readonly #byTenant = new Map<string, Admission>();
  /** By tenant and unit, told apart by the tenant's length: neither can be written so as to look like another pair. */
  readonly #byUnit = new Map<string, Admission>();
  readonly #options: { readonly preparedStatements: boolean; readonly observing?: boolean | undefined };
  readonly #sealer: Sealer | undefined;

  constructor(options: { preparedStatements: boolean; observing?: boolean; sealer?: Sealer | undefined }) {
    this.#options = options;
    this.#sealer = options.sealer;
  }

  of(tenant: string, unit?: string): Admission {
    const known = unit === undefined ? this.#byTenant.get(tenant) : this.#byUnit.get(pair(tenant, unit));
    return known && this.#isGood(known) ? known : this.#remember(tenant, unit, known?.seen ?? null);
  }

  /** Notes what `enter_since` returned for the admission that was sent. */
  answered({ tenant, unit, seen: sent }: Admission, seen: string | null): void {
    if (sent !== seen) this.#remember(tenant, unit, seen);
  }

  /**
   * A new connection may lead to a server that was promoted or restored, whose numbers are its own; one of them could by
   * chance be the one that is remembered.
   */
  forget(): void {
    this.#byTenant.clear();
    this.#byUnit.clear();
  }

  /** A clock that was set back makes a new seal too: the old one may be over long before it says so. */
  #isGood({ made }: Admission): boolean {
    if (!made || !this.#sealer) return true;
    const now = this.#sealer.now();
    return made.at <= now && now < made.renewAt;
  }

  #remember(tenant: string, unit: string | undefined, seen: string | null): Admission {
    const map = unit === undefined ? this.#byTenant : this.#byUnit;
    if (map.size >= admissionsMax) map.clear();
    const admission = this.#make(tenant, unit, seen);
    map.set(unit === undefined ? tenant : pair(tenant, unit), admission);
    return admission;
  }

  #make(tenant: string, unit: string | undefined, seen: string | null): Admission {
    if (this.#sealer) {
      const at = this.#sealer.now();
      const { key, expires, mac, renewAt } = this.#sealer.seal(tenant, unit ?? null);
      const statement = this.#statement('partywall_enter_sealed');
      const values = [tenant, unit ?? null, seen, String(key), String(expires), `\\x${mac.toString('hex')}`];
      return { tenant, unit, seen, statement, messages: enterMessages(statement, values), made: { at, renewAt } };
    }
    const statement = this.#statement(unit === undefined ? 'partywall_enter' : 'partywall_enter_unit');
    const messages = enterMessages(statement, unit === undefined ? [tenant, seen] : [tenant, unit, seen]);
    return { tenant, unit, seen, statement, messages };
  }

  #statement(name: keyof typeof statements): EnterStatement {
    const call = statements[name];
    return {
      name: this.#options.preparedStatements ? name : '',
      // A connection that a roll-out observes with is told in a notice what the wall would refuse, and the statement goes on.
      text: this.#options.observing ? `select case when partywall.observe($1) then ${call} end` : `select ${call}`,
    };
  }
}

function pair(tenant: string, unit: string): string {
  return `${tenant.length}:${tenant}${unit}`;
}

/** https://www.postgresql.org/docs/current/protocol-message-formats.html; all parameters and results are text, the portal is the unnamed one. */
function enterMessages({ name, text }: EnterStatement, values: readonly (string | null)[]): Buffer {
  const bind = message('B', zero, zeroEnded(name), int16(0), int16(values.length), ...values.map(parameter), int16(0));
  const execute = message('E', zero, int32(0));
  return name === '' ? Buffer.concat([message('P', zero, zeroEnded(text), int16(0)), bind, execute]) : Buffer.concat([bind, execute]);
}

const zero = Buffer.from([0]);

function message(kind: string, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from(kind), int32(body.length + 4), body]);
}

function parameter(value: string | null): Buffer {
  if (value === null) return int32(-1);
  const bytes = Buffer.from(value);
  return Buffer.concat([int32(bytes.length), bytes]);
}

function zeroEnded(text: string): Buffer {
  return Buffer.from(`${text}\0`);
}

function int16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeInt16BE(value);
  return bytes;
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}
