import { z } from 'zod';
import { PartywallError } from '../../errors.ts';
import { type Conversation, converse } from './conversation.ts';
import type { KeySource } from './key-source.ts';

const versionsMax = 10_000;
const dataBytesMax = 16 * 1024;

const version = z.int().min(1);
const answers = {
  versions: z.object({ versions: z.array(version).max(versionsMax) }),
  create: z.object({ version }),
  data: z.object({ data: z.base64().max(dataBytesMax) }),
  destroy: z.object({ destroyed: z.boolean() }),
};

export interface CommandSourceOptions {
  /** Of the command. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** How long one answer may take. */
  readonly timeoutMs?: number;
}

/**
 * Key-encryption keys in a key management system, behind a command of the operator's. It is started once, with a shell, and answers one line of JSON
 * for each line it reads. `docs/guide/keys.md` has the protocol and a hook to start from. Plain keys are in its standard input and output only.
 */
export function commandSource(command: string, options: CommandSourceOptions): KeySource {
  let open: Conversation | undefined;

  const ask = async <Answer>(schema: z.ZodType<Answer>, question: Readonly<Record<string, string | number>>): Promise<Answer> => {
    if (!open || open.ended()) open = converse(command, options);
    const answered = schema.safeParse(await open.ask(question));
    if (answered.success) return answered.data;
    // Not what was answered instead: it may be a key.
    throw new PartywallError('keyring_refused', `asking the command of PARTYWALL_KEK to ${question['op']}: its answer is not of the documented form`);
  };
  const convert = async (op: 'wrap' | 'unwrap', question: { version: number; data: Buffer; context: string }): Promise<Buffer> => {
    const { data } = await ask(answers.data, { op, ...question, data: question.data.toString('base64') });
    return Buffer.from(data, 'base64');
  };
  return {
    description: 'command',
    versions: async () => (await ask(answers.versions, { op: 'versions' })).versions.sort((a, b) => a - b),
    wrap: (number, data, context) => convert('wrap', { version: number, data, context }),
    unwrap: (number, data, context) => convert('unwrap', { version: number, data, context }),
    create: async (above) => {
      const made = await ask(answers.create, { op: 'create', above });
      if (made.version > above) return made.version;
      throw new PartywallError('keyring_refused', `making a key-encryption key above ${above}: the command of PARTYWALL_KEK made ${made.version}`);
    },
    destroy: async (number) => ((await ask(answers.destroy, { op: 'destroy', version: number })).destroyed ? 'destroyed' : 'pending'),
    close: async () => open?.end(),
  };
}
