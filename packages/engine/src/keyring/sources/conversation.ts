import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { z } from 'zod';
import { PartywallError } from '../../errors.ts';

/** One process that answers a line of JSON for each line of JSON, in any order. */
export interface Conversation {
  /** @throws PartywallError keyring_refused: it answered with an error, not in time, not at all, or something else than JSON */
  ask(question: Readonly<Record<string, string | number>>): Promise<unknown>;
  ended(): boolean;
  /** Ends the process, and waits for that. */
  end(): Promise<void>;
}

export interface ConversationOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly timeoutMs?: number;
}

const answerTimeoutMs = 30_000;
const lineBytesMax = 256 * 1024;
const openQuestionsMax = 1_000;
const saidCharactersMax = 200;
const newline = 0x0a;

const envelope = z.looseObject({ id: z.int(), error: z.string().optional() });

interface Question {
  readonly op: string;
  settle(answer: unknown): void;
  fail(error: PartywallError): void;
}

/** Starts the command with a shell, in a process group of its own, so that what the shell starts ends with it. */
export function converse(command: string, { env, timeoutMs = answerTimeoutMs }: ConversationOptions): Conversation {
  // What it writes on standard error may be anything, keys included: it goes where the command itself sends it.
  const child = spawn(command, { shell: true, detached: true, stdio: ['pipe', 'pipe', 'ignore'], env: { ...env } });
  const questions = new Map<number, Question>();
  let asked = 0;
  let over: string | undefined;
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()).once('error', () => resolve()));

  const stop = (why: string): void => {
    if (over !== undefined) return;
    over = why;
    for (const { op, fail } of questions.values()) fail(refused(op, over));
    questions.clear();
    endGroup(child);
  };
  const hear = (line: Buffer): void => {
    const answer = parsed(line);
    const question = answer && questions.get(answer.id);
    if (!question) {
      stop('it wrote something that is no answer');
      return;
    }
    questions.delete(answer.id);
    if (answer.error === undefined) question.settle(answer);
    else question.fail(refused(question.op, `it says: ${repeatable(answer.error)}`));
  };
  child.stdout.on(
    'data',
    lines(hear, () => stop(`it wrote a line of over ${lineBytesMax} bytes`)),
  );
  child.on('error', () => stop('it could not be started'));
  child.on('exit', (code, signal) => stop(`it ended with ${signal ?? `status ${code}`}`));
  // It reads no more questions: its exit says why, else the time runs out.
  child.stdin.on('error', () => {});

  return {
    ask: (question) => {
      const op = String(question['op']);
      if (over !== undefined) return Promise.reject(refused(op, over));
      if (questions.size >= openQuestionsMax) return Promise.reject(refused(op, `${openQuestionsMax} questions are open`));
      const id = ++asked;
      const { promise, resolve, reject } = Promise.withResolvers<unknown>();
      const timer = setTimeout(() => stop(`it did not answer within ${timeoutMs} ms`), timeoutMs);
      questions.set(id, { op, settle: resolve, fail: reject });
      child.stdin.write(`${JSON.stringify({ id, ...question })}\n`);
      return promise.finally(() => clearTimeout(timer));
    },
    ended: () => over !== undefined,
    end: async () => {
      stop('it was ended');
      await closed;
    },
  };
}

function refused(op: string, why: string): PartywallError {
  return new PartywallError('keyring_refused', `asking the command of PARTYWALL_KEK to ${op}: ${why}`, {
    hint: 'run it by hand and write it a line: docs/guide/keys.md has the protocol',
  });
}

/** What the command says went wrong, without anything in it that is long enough to be a key. */
function repeatable(said: string): string {
  return said
    .replaceAll(/[^\x20-\x7e]/g, ' ')
    .replaceAll(/[\w+/=-]{20,}/g, '…')
    .slice(0, saidCharactersMax);
}

function parsed(line: Buffer): z.output<typeof envelope> | undefined {
  try {
    return envelope.safeParse(JSON.parse(line.toString('utf8'))).data;
  } catch {
    return undefined;
  }
}

/** Cuts a stream into its lines; `tooLong` where one does not end. */
function lines(hear: (line: Buffer) => void, tooLong: () => void): (chunk: Buffer) => void {
  let rest = Buffer.alloc(0);
  return (chunk) => {
    rest = Buffer.concat([rest, chunk]);
    for (let end = rest.indexOf(newline); end !== -1; end = rest.indexOf(newline)) {
      hear(rest.subarray(0, end));
      rest = rest.subarray(end + 1);
    }
    if (rest.length <= lineBytesMax) return;
    rest = Buffer.alloc(0);
    tooLong();
  };
}

function endGroup({ pid }: ChildProcessByStdio<Writable, Readable, null>): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // All of it has ended.
  }
}
