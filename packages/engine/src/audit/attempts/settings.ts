import { sqlState } from '../../db/connect.ts';
import { type Operation, transaction } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import { appendAuditIfInstalled } from '../append-if-installed.ts';
import { withoutFullMask } from './attempts.ts';

/** When a source is blocked, and for how long. Held in the database, so that it holds in every process at once. */
export interface AttemptSettings {
  /** Attempts within the window after which a source is blocked; 0: none is. */
  readonly threshold: number;
  readonly windowMinutes: number;
  readonly blockMinutes: number;
  /** Networks that are never blocked: an office, a monitor. */
  readonly exempt: readonly string[];
}

const settingsSql = `select s.threshold, s.window_minutes as "windowMinutes", s.block_minutes as "blockMinutes", s.exempt::text[] as exempt from partywall.attempt_settings s`;

export async function readAttemptSettings({ database }: Pick<Operation, 'database'>): Promise<AttemptSettings> {
  const { rows } = await database.pool.query<AttemptSettings>(settingsSql);
  const [settings] = rows;
  if (!settings) throw new Error('partywall.attempt_settings has lost its row');
  return { ...settings, exempt: settings.exempt.map(withoutFullMask) };
}

/**
 * Changes what is given and leaves the rest.
 *
 * @throws PartywallError input_invalid (a number out of its range, a network that is none)
 */
export async function setAttemptSettings(operation: Operation, changes: Partial<AttemptSettings>): Promise<AttemptSettings> {
  const before = await readAttemptSettings(operation);
  const after = { ...before, ...changes };
  try {
    await transaction(operation.database.pool, async (client) => {
      await client.query(
        'update partywall.attempt_settings set threshold = $1, window_minutes = $2, block_minutes = $3, exempt = $4::cidr[], changed_at = now()',
        [after.threshold, after.windowMinutes, after.blockMinutes, after.exempt],
      );
      await appendAuditIfInstalled(client, operation, { tenant: null, action: 'attempt_settings.set', details: { before, after } });
    });
  } catch (cause) {
    const state = sqlState(cause) ?? '';
    if (state !== '23514' && !state.startsWith('22')) throw cause;
    throw new PartywallError('input_invalid', 'setting when sources are blocked: a number is out of its range, or an exempt network is none', { cause });
  }
  return readAttemptSettings(operation);
}
