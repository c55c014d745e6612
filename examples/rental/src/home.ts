import { randomBytes } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';

const one = z.string().min(32);
const secretsSchema = z.strictObject({ app: one, system: one, service: one, token: one, payments: one });
/** Passwords of three roles, and what signs bearer tokens and the payment provider's messages. */
export type Secrets = z.output<typeof secretsSchema>;

/** What the example keeps between starts, below one folder. */
export interface Home {
  readonly postgres: string;
  /** Variables for the commands of the runbook. */
  readonly env: string;
  readonly secrets: Secrets;
}

const secretBytes = 32;

/** Makes the folder and its secrets where they are not there yet. */
export async function openHome(folder: string): Promise<Home> {
  await fs.mkdir(folder, { recursive: true, mode: 0o755 });
  return { postgres: path.join(folder, 'postgres'), env: path.join(folder, 'env'), secrets: await openSecrets(path.join(folder, 'secrets.json')) };
}

/** Whether a connection string is of the folder's own server, on whichever port that was: its password is nobody else's. */
export async function isOwnServer({ postgres }: Home, url: string): Promise<boolean> {
  const secret = await fs.readFile(`${postgres}.secret`, 'utf8').catch(() => undefined);
  return secret !== undefined && URL.canParse(url) && new URL(url).password === secret.trim();
}

/** Writes what the commands of the runbook read; passwords and tokens are in it. */
export async function writeEnvironment(file: string, variables: Readonly<Record<string, string>>): Promise<void> {
  const lines = Object.entries(variables).map(([name, value]) => `export ${name}='${value.replaceAll("'", `'\\''`)}'\n`);
  await fs.writeFile(file, lines.join(''), { mode: 0o600 });
}

async function openSecrets(file: string): Promise<Secrets> {
  const random = (): string => randomBytes(secretBytes).toString('base64url');
  const made: Secrets = { app: random(), system: random(), service: random(), token: random(), payments: random() };
  try {
    // Exclusive, so that of two starts at once one writes and the other reads.
    await fs.writeFile(file, `${JSON.stringify(made)}\n`, { mode: 0o600, flag: 'wx' });
    return made;
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
    return secretsSchema.parse(JSON.parse(await fs.readFile(file, 'utf8')));
  }
}
