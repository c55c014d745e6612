import { type EngineErrorCode, PartywallError, sqlState } from '@partywall/engine';
import { CommanderError } from 'commander';

/** What `--json` prints instead of an answer. */
export interface FailureData {
  readonly error: { readonly code: EngineErrorCode; readonly message: string; readonly hint: string; readonly details: readonly string[] };
}

const permissionStates = new Set(['42501', '28000', '28P01']);

/** Every error becomes one that has a code: a command ends with a code and a line, never with a stack. */
export function toFailure(error: unknown): PartywallError {
  if (error instanceof PartywallError) return error;
  if (error instanceof CommanderError) return new PartywallError('usage', error.message.replace(/^error: /, ''), { cause: error });
  const message = firstLine(error instanceof Error ? error.message || error.name : String(error));
  const state = sqlState(error);
  if (state !== undefined && permissionStates.has(state)) return new PartywallError('permission_missing', `asking the database: ${message}`, { cause: error });
  return new PartywallError('internal', message, { cause: error });
}

export function failureData(failure: PartywallError): FailureData {
  return { error: { code: failure.code, message: failure.message, hint: failure.hint, details: failure.details } };
}

/** One line for the message, one for each detail, one for the hint. */
export function failureText(failure: PartywallError, style: (style: 'red' | 'dim', text: string) => string): string {
  return [
    `${style('red', 'partywall:')} ${failure.message}`,
    ...failure.details.filter((detail) => !failure.message.includes(detail)).map((detail) => `  ${detail}`),
    style('dim', `  hint: ${failure.hint}`),
  ].join('\n');
}

function firstLine(text: string): string {
  return text.split('\n', 1)[0] ?? '';
}
