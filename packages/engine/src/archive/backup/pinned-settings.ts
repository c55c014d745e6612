import type pg from 'pg';
import { pinTexts } from '../../tenants/transfer/session.ts';

/** Scans begin at the first block, so that unchanged rows come in the same order again, and nothing competes with the reading threads. */
const reading: Readonly<Record<string, string>> = {
  synchronize_seqscans: 'off',
  max_parallel_workers_per_gather: '0',
  jit: 'off',
};

/** Those that decide how a value is written as text; they are named in the manifest. */
const textSettings = [
  'client_encoding',
  'DateStyle',
  'IntervalStyle',
  'TimeZone',
  'extra_float_digits',
  'bytea_output',
  'xmloption',
  'lc_monetary',
  'server_encoding',
] as const;

/** Pins, for the current transaction, the texts of values and the way in which tables are read. */
export async function pinReading(client: pg.ClientBase): Promise<void> {
  await pinTexts(client);
  await client.query('select set_config(s.name, s.value, true) from unnest($1::text[], $2::text[]) s (name, value)', [
    Object.keys(reading),
    Object.values(reading),
  ]);
}

/** The settings that texts are written under, as they are in force. */
export async function readTextSettings(client: pg.ClientBase): Promise<Record<string, string>> {
  const { rows } = await client.query<{ name: string; value: string }>('select n as name, current_setting(n) as value from unnest($1::text[]) n', [
    textSettings,
  ]);
  return Object.fromEntries(rows.map(({ name, value }) => [name, value]));
}
