import type { styleText } from 'node:util';
import { PartywallError } from '@partywall/engine';
import type { Talk } from './talk.ts';

export type Style = Parameters<typeof styleText>[0];

/** What every command gets: the world it runs in. Commands touch neither `process` nor its streams. */
export interface CommandContext {
  readonly cwd: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly options: GlobalOptions;
  /** Aborted by Ctrl-C: the command stops where it is safe to and cleans up. */
  readonly signal: AbortSignal;
  /** Standard error: progress, questions, warnings. */
  readonly talk: Talk;
  /** Colours text of an answer when standard output is a terminal. */
  readonly style: (style: Style, text: string) => string;
}

export interface GlobalOptions {
  readonly config?: string;
  readonly url?: string;
  readonly json?: true;
  readonly debug?: true;
}

/** What a command found out. The frame prints it on standard output: `data` with --json, else `text`. */
export interface Answer {
  /** 0 yes, 1 no, 2 parts of the question could not be asked, 3 it is too early to tell. One that could not be asked at all is an error instead. */
  readonly exit: 0 | 1 | 2 | 3;
  readonly data: unknown;
  readonly text: string;
  /** Runs after the answer is printed, until the signal is aborted: a server that stays up. */
  readonly serve?: (signal: AbortSignal) => Promise<void>;
}

/** Adds a verb's action to the frame, which prints its answer and its errors. */
export type Start = <Options extends object>(action: (ctx: CommandContext, options: Options) => Promise<Answer>) => (...given: unknown[]) => Promise<void>;

/** The database the command works on: --url, else DATABASE_URL. */
export function databaseUrl(ctx: CommandContext): string {
  const url = ctx.options.url ?? ctx.env['DATABASE_URL'];
  if (!url) {
    throw new PartywallError('usage', 'connecting to the database: none given', {
      hint: 'pass --url, or set DATABASE_URL; `partywall up --embedded-only` starts a server for a trial',
    });
  }
  return connectionString(url, ctx.options.url === undefined ? 'DATABASE_URL' : '--url');
}

/** Refuses what is no connection string, without repeating it: it may hold a password. */
export function connectionString(url: string, source: string): string {
  const protocol = URL.canParse(url) ? new URL(url).protocol : '';
  if (protocol !== 'postgresql:' && protocol !== 'postgres:') {
    throw new PartywallError('usage', `reading ${source}: not a connection string of the form postgresql://user:password@host:5432/database`);
  }
  return url;
}
