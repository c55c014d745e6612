import type { Scope } from './context.ts';
import { CrossTenantError, StatementRefusedError } from './errors.ts';
import type { Statement } from './statement.ts';

/** As the server reported it with its last answer: idle, in a transaction, in a failed one. Null before the first answer. */
export type TransactionStatus = 'I' | 'T' | 'E' | null;

/** What to do with a statement: send it as it is, enter the tenant first, or answer with the error and send nothing. */
export type Decision = 'plain' | 'enter' | Error;

/**
 * Follows the transaction of one connection. Statements are answered one after another, so what is true when one is
 * submitted stays true until it is answered.
 *
 * States, beside the server's own: *none*; *begun* by a scope, which alone may use it; *entered*, so that data statements go as they
 * are; *refused*: the tenant was not admitted, the transaction has been rolled back, and until the application has said ROLLBACK or
 * COMMIT, every statement it thinks to be part of the transaction gets the refusal.
 */
export class TransactionTrack {
  #scope: Scope | undefined;
  #entered = false;
  #refusal: Error | undefined;
  #readOnlyTenant = false;

  /** `enter` told that the tenant is read-only; holds until the transaction ends. */
  get readOnlyTenant(): boolean {
    return this.#readOnlyTenant;
  }

  /** Decides about a statement, and takes it as sent unless the decision is an error. */
  decide(status: TransactionStatus, statement: Statement, scope: Scope): Decision {
    if (this.#refusal) return this.#afterRefusal(this.#refusal, statement);
    if (status === 'I') this.reset();
    else if (this.#scope && !sameScope(this.#scope, scope)) return foreign(this.#scope, scope, statement);
    if (statement.refusal !== null) return new StatementRefusedError({ message: statement.refusal });
    if (statement.kind === 'alone' && scope.kind === 'tenant') {
      return new StatementRefusedError({
        message: `${statement.verb.toUpperCase()} cannot share a transaction with entering a tenant; run it in system(purpose, ...)`,
      });
    }
    switch (statement.kind) {
      case 'begin':
        this.#scope = scope;
        return 'plain';
      case 'commit':
      case 'rollback':
      case 'rollback_to':
        // AND CHAIN begins a transaction that is in no tenant, and going back to a savepoint undoes what was set after it.
        this.#entered = false;
        return 'plain';
      case 'data':
      case 'copy':
        this.#scope ??= scope;
        return scope.kind !== 'tenant' || this.#entered || status === 'E' ? 'plain' : 'enter';
      default:
        return 'plain';
    }
  }

  /** The database has admitted the tenant. */
  entered(): void {
    this.#entered = true;
  }

  tenantIsReadOnly(): void {
    this.#readOnlyTenant = true;
  }

  /** The database has not admitted the tenant, inside a transaction of the application's. */
  refused(refusal: Error): void {
    this.reset();
    this.#refusal = refusal;
  }

  /** Something was sent that may have ended the transaction, or the tenant's stay in it: the next data statement enters again. */
  left(): void {
    this.#entered = false;
  }

  /** Back to *none*: the connection is idle, or was handed back. */
  reset(): void {
    this.#scope = undefined;
    this.#entered = false;
    this.#refusal = undefined;
    this.#readOnlyTenant = false;
  }

  #afterRefusal(refusal: Error, { kind, chain }: Statement): Decision {
    if (kind === 'rollback' && !chain) {
      this.reset();
      return 'plain';
    }
    if (kind === 'commit') this.reset();
    return refusal;
  }
}

function sameScope(one: Scope, other: Scope): boolean {
  return one.kind === 'tenant' && other.kind === 'tenant' ? one.tenant === other.tenant && one.unit === other.unit : one.kind === other.kind;
}

function foreign(owner: Scope, scope: Scope, statement: Statement): CrossTenantError {
  return new CrossTenantError({ message: `sending "${statement.verb}" in ${shown(scope)} on a connection whose transaction is in ${shown(owner)}` });
}

function shown(scope: Scope): string {
  if (scope.kind === 'tenant') {
    return `the context of tenant ${JSON.stringify(scope.tenant)}${scope.unit === undefined ? '' : `, unit ${JSON.stringify(scope.unit)}`}`;
  }
  return scope.kind === 'none' ? 'no context' : `a ${scope.kind} context`;
}
