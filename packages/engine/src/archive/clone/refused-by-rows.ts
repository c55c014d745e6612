import { sqlState } from '../../db/connect.ts';
import { PartywallError } from '../../errors.ts';

/**
 * The error for what the rows themselves cause: constraints, quotas, triggers that raise. The server's own troubles stay what they are.
 *
 * @param doing `cloning tenant 7`
 */
export function refusedByRows(error: unknown, doing: string): unknown {
  const state = sqlState(error);
  if (!(error instanceof Error) || state === undefined || !/^(?:22|23|27|44|P0|PW|0A|42)/.test(state)) return error;
  const named = ['table', 'column', 'constraint'].flatMap((part) => {
    const name: unknown = Reflect.get(error, part);
    return typeof name === 'string' ? [`${part} ${name}`] : [];
  });
  // The words of a trigger and of a quota are made to be read; those of a constraint may hold values.
  const what = /^P[0W]/.test(state) ? error.message.slice(0, 200) : [...named, `SQLSTATE ${state}`].join(', ');
  return new PartywallError('restore_conflict', `${doing}: the database refuses: ${what}`, { cause: error });
}
