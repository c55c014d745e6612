import { createHash, randomBytes } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';

/** What this machine's demo keeps between starts: passwords of two roles, the key that signs sessions, the password of the demo's people. */
export type DemoSecrets = z.infer<typeof secrets>;

const one = z.string().min(32);
const secrets = z.strictObject({ appPassword: one, servicePassword: one, sessionSecret: one, peoplePassword: one });
const secretBytes = 32;

/** Reads the secrets for one database, or makes them: one file for each, readable by its owner only. */
export async function demoSecrets(folder: string, target: string): Promise<DemoSecrets> {
  const file = path.join(folder, `crm-${createHash('sha256').update(target).digest('hex').slice(0, 8)}.secrets.json`);
  await fs.mkdir(folder, { recursive: true });
  const random = (): string => randomBytes(secretBytes).toString('base64url');
  const made: DemoSecrets = { appPassword: random(), servicePassword: random(), sessionSecret: random(), peoplePassword: random() };
  try {
    // Exclusive, so that of two starts at once one writes and the other reads.
    await fs.writeFile(file, `${JSON.stringify(made)}\n`, { mode: 0o600, flag: 'wx' });
    return made;
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
    return secrets.parse(JSON.parse(await fs.readFile(file, 'utf8')));
  }
}
