import { randomBytes } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { z } from 'zod';

/** What the example keeps between starts, all of it below one folder. */
export interface Home {
  readonly folder: string;
  readonly postgres: string;
  readonly uploads: string;
  /** URL of the same folder. */
  readonly uploadsUrl: string;
  readonly keyring: string;
  readonly work: string;
  /** URLs of the stores. The escrow copy is beside the archive here; keep yours elsewhere. */
  readonly archive: string;
  readonly escrow: string;
  /** Of the SQLite platform. */
  readonly sqlite: string;
  /** Variables for the commands of the runbook. */
  readonly env: string;
  readonly secrets: Secrets;
}

const one = z.string().min(32);
const secretsSchema = z.strictObject({ app: one, service: one, session: one, people: one });
/** Passwords of two roles, the key that signs sessions, and the password of the demo's people. */
export type Secrets = z.output<typeof secretsSchema>;

const secretBytes = 32;

/** Makes the folder and its secrets where they are not there yet. */
export async function openHome(folder: string): Promise<Home> {
  await fs.mkdir(folder, { recursive: true, mode: 0o755 });
  const at = (name: string): string => path.join(folder, name);
  return {
    folder,
    postgres: at('postgres'),
    uploads: at('uploads'),
    uploadsUrl: pathToFileURL(at('uploads')).href,
    keyring: at('keyring'),
    work: at('work'),
    archive: pathToFileURL(at('archive')).href,
    escrow: pathToFileURL(at('escrow')).href,
    sqlite: at('admin.db'),
    env: at('env'),
    secrets: await openSecrets(at('secrets.json')),
  };
}

/** Writes what the commands of the runbook read from the environment; it holds the service role's password. */
export async function writeEnvironment({ keyring, archive, escrow, work, uploadsUrl, env }: Home, serviceUrl: string): Promise<void> {
  const variables = {
    PARTYWALL_SERVICE_URL: serviceUrl,
    PARTYWALL_ARCHIVE: archive,
    PARTYWALL_ESCROW: escrow,
    PARTYWALL_KEYRING: keyring,
    PARTYWALL_WORK: work,
    CHATBOT_UPLOADS: uploadsUrl,
  };
  const lines = Object.entries(variables).map(([name, value]) => `export ${name}='${value.replaceAll("'", `'\\''`)}'\n`);
  await fs.writeFile(env, lines.join(''), { mode: 0o600 });
}

async function openSecrets(file: string): Promise<Secrets> {
  const random = (): string => randomBytes(secretBytes).toString('base64url');
  const made: Secrets = { app: random(), service: random(), session: random(), people: random() };
  try {
    // Exclusive, so that of two starts at once one writes and the other reads.
    await fs.writeFile(file, `${JSON.stringify(made)}\n`, { mode: 0o600, flag: 'wx' });
    return made;
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
    return secretsSchema.parse(JSON.parse(await fs.readFile(file, 'utf8')));
  }
}
