/** PL/pgSQL that leaves undone what another session is at, or has changed since this transaction's snapshot. */
export function unlessTaken(statements: string): string {
  return `begin
    ${statements}
  exception when lock_not_available or serialization_failure then
    null;
  end;`;
}
