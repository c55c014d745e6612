/**
 * Which tenants the database admitted, and under which number of the last change of any tenant's state (`partywall.enter_since`). As long
 * as the number is the current one, entering such a tenant again needs no look at the registry. The number is the database's to
 * compare: an entry that has become stale costs one look, never an admission.
 *
 * Each entry is the two protocol messages that enter the tenant, ready to be sent, because they are the same every time.
 */
export interface Admission {
  readonly tenant: string;
  /** The number as the database printed it, null where it has none for this tenant. */
  readonly seen: string | null;
  /** Bind and Execute, for a named statement; with Parse before them for the unnamed one. */
  readonly messages: Buffer;
}

/** About 300 bytes each. */
const admissionsMax = 10_000;

export const enterText = 'select partywall.enter_since($1, $2)';
/** Of the prepared statement; empty where a pooler cannot keep one. */
export const enterName = 'partywall_enter';

export class Admissions {
  readonly #byTenant = new Map<string, Admission>();
  readonly #statement: string;

  constructor(options: { preparedStatements: boolean }) {
    this.#statement = options.preparedStatements ? enterName : '';
  }

  of(tenant: string): Admission {
    return this.#byTenant.get(tenant) ?? this.#remember(tenant, null);
  }

  /** Notes what `enter_since` returned for the admission that was sent. */
  answered({ tenant, seen: sent }: Admission, seen: string | null): void {
    if (sent !== seen) this.#remember(tenant, seen);
  }

  /**
   * A new connection may lead to a server that was promoted or restored, whose numbers are its own; one of them could by
   * chance be the one that is remembered.
   */
  forget(): void {
    this.#byTenant.clear();
  }

  #remember(tenant: string, seen: string | null): Admission {
    if (this.#byTenant.size >= admissionsMax) this.#byTenant.clear();
    const admission = { tenant, seen, messages: enterMessages(this.#statement, tenant, seen) };
    this.#byTenant.set(tenant, admission);
    return admission;
  }
}

/** https://www.postgresql.org/docs/current/protocol-message-formats.html; all parameters and results are text, the portal is the unnamed one. */
function enterMessages(statement: string, tenant: string, seen: string | null): Buffer {
  const bind = message('B', zero, zeroEnded(statement), int16(0), int16(2), parameter(tenant), parameter(seen), int16(0));
  const execute = message('E', zero, int32(0));
  return statement === '' ? Buffer.concat([message('P', zero, zeroEnded(enterText), int16(0)), bind, execute]) : Buffer.concat([bind, execute]);
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
