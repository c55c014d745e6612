import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { appendFileSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';

/**
 * A key management system in a folder, spoken to by the protocol of `docs/guide/keys.md`. Arguments: the folder, and how it misbehaves:
 * `babble`, `flood`, `leak`, `exit`, `wrong`.
 */
const [folder = '', mood = 'well'] = process.argv.slice(2);

interface Question {
  readonly id: number;
  readonly op: string;
  readonly version: number;
  readonly above: number;
  readonly data: string;
  readonly context: string;
}

const fileOf = (version: number): string => path.join(folder, String(version));
const versions = (): number[] =>
  readdirSync(folder)
    .filter((name) => /^\d+$/.test(name))
    .map(Number);

function answer({ op, version, above, data, context }: Question): Readonly<Record<string, unknown>> {
  const key = (): Buffer => readFileSync(fileOf(version));
  const bytes = (): Buffer => Buffer.from(data, 'base64');
  switch (op) {
    case 'versions':
      return { versions: versions() };
    case 'create': {
      const made = Math.max(above, ...versions()) + 1;
      writeFileSync(fileOf(made), randomBytes(32), { flag: 'wx' });
      return { version: made };
    }
    case 'destroy':
      rmSync(fileOf(version), { force: true });
      return { destroyed: true };
    case 'wrap': {
      if (mood === 'leak') throw new Error(`cannot wrap ${data} for you`);
      if (mood === 'wrong') return { plain: data };
      const nonce = randomBytes(12);
      const cipher = createCipheriv('aes-256-gcm', key(), nonce).setAAD(Buffer.from(context));
      return { data: Buffer.concat([nonce, cipher.update(bytes()), cipher.final(), cipher.getAuthTag()]).toString('base64') };
    }
    case 'unwrap': {
      const wrapped = bytes();
      const decipher = createDecipheriv('aes-256-gcm', key(), wrapped.subarray(0, 12)).setAAD(Buffer.from(context)).setAuthTag(wrapped.subarray(-16));
      return { data: Buffer.concat([decipher.update(wrapped.subarray(12, -16)), decipher.final()]).toString('base64') };
    }
    default:
      throw new Error('unknown op');
  }
}

appendFileSync(path.join(folder, 'started'), `${JSON.stringify({ pid: process.pid, argv: process.argv, env: process.env })}\n`);
for await (const line of createInterface({ input: process.stdin })) {
  const question: Question = JSON.parse(line);
  appendFileSync(path.join(folder, 'asked'), `${question.op}\n`);
  if (mood === 'exit') process.exit(3);
  if (mood === 'babble') process.stdout.write('Welcome to KMS!\n');
  if (mood === 'flood') process.stdout.write('x'.repeat(1_000_000));
  if (!existsSync(folder)) process.exit(0);
  let result: Readonly<Record<string, unknown>>;
  try {
    result = answer(question);
  } catch (error) {
    result = { error: error instanceof Error ? error.message : 'unknown' };
  }
  process.stdout.write(`${JSON.stringify({ id: question.id, ...result })}\n`);
}
