import type pg from 'pg';

/** With other values a string ends elsewhere than the lexer believes, so that a statement can leave in the session what nobody sees here. */
const readAs: Readonly<Record<string, string>> = { standard_conforming_strings: 'on', client_encoding: 'UTF8' };

/** Tells when the server reads texts otherwise than the lexer does. It reports these settings by itself before its next answer, however they were set. */
export function onMisread(connection: pg.Connection, tell: (reason: string) => void): void {
  connection.on('parameterStatus', ({ parameterName, parameterValue }: { readonly parameterName: string; readonly parameterValue: string }) => {
    const wanted = readAs[parameterName];
    if (wanted !== undefined && parameterValue !== wanted) tell(`${parameterName} was ${parameterValue}`);
  });
}
