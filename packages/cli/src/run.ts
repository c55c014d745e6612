import { styleText } from 'node:util';
import { PartywallError } from '@partywall/engine';
import { Command, CommanderError } from 'commander';
import type { Answer, CommandContext, GlobalOptions, Start } from './context.ts';
import { failureData, failureText, toFailure } from './failure.ts';
import { createTalk } from './talk.ts';
import { type Register, verbs } from './verbs.ts';
import { version } from './version.ts';

/** The part of `process` that the command needs. */
export type World = Pick<NodeJS.Process, 'stdin' | 'stdout' | 'stderr' | 'env' | 'cwd'>;

/** What shells report for a process that SIGINT ended. */
export const interruptedStatus = 130;
/** How long a command may take to stop cleanly after Ctrl-C. */
const stopTimeoutMs = 10_000;

/** Runs one command line to its exit status. The only place that prints answers and errors. */
export async function run(args: readonly string[], world: World, signal: AbortSignal): Promise<number> {
  const talk = createTalk(world, Date.now);
  // Read before parsing, because parsing may be what fails.
  const asJson = args.includes('--json');
  let status = 0;

  const print = (answer: Pick<Answer, 'data' | 'text'>): void => {
    talk.finish();
    const text = asJson ? JSON.stringify(answer.data, undefined, 2) : answer.text;
    if (text !== '') world.stdout.write(text.endsWith('\n') ? text : `${text}\n`);
  };

  const start: Start =
    (action) =>
    async (...given) => {
      const command = given.at(-1);
      if (!(command instanceof Command)) throw new TypeError('commander passes the command last');
      const options = command.optsWithGlobals<GlobalOptions & Parameters<typeof action>[1]>();
      const ctx: CommandContext = {
        cwd: world.cwd(),
        env: world.env,
        options,
        signal,
        talk,
        style: (style, text) => styleText(style, text, { stream: world.stdout }),
      };
      const answer = await orInterrupted(action(ctx, options), signal);
      print(answer);
      status = answer.exit;
      if (answer.serve) await answer.serve(signal);
    };

  try {
    await program(start, verbs).parseAsync(args, { from: 'user' });
    return status;
  } catch (error) {
    talk.finish();
    if (signal.aborted) {
      if (asJson) print({ data: { error: { code: 'interrupted', message: 'interrupted', hint: 'run the same command again', details: [] } }, text: '' });
      else talk.line('partywall: interrupted');
      return interruptedStatus;
    }
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    const failure = noCommand(error) ?? toFailure(error);
    if (asJson) print({ data: failureData(failure), text: '' });
    else talk.line(failureText(failure, talk.style));
    if (args.includes('--debug')) talk.line(stackOf(error));
    return failure.exit;
  }
}

function program(start: Start, registers: readonly Register[]): Command {
  const root = new Command('partywall')
    .description('Wall off the tenants that share a PostgreSQL database, and prove it.')
    .option('--config <file>', 'tenancy config (default: partywall.config.ts here or in a folder above)')
    .option('--url <url>', 'connection string of the database (default: DATABASE_URL)')
    .option('--json', 'print the answer, or the error, as one JSON value on standard output')
    .option('--debug', 'print the stack of an error')
    .version(version)
    .helpCommand(false)
    .configureHelp({ showGlobalOptions: true })
    .exitOverride()
    .configureOutput({ writeErr: () => undefined, outputError: () => undefined })
    .showHelpAfterError(false)
    .addHelpText('after', rootHelp);
  for (const register of registers) register(root, start);
  return root;
}

const rootHelp = `
Exit status:
  0    yes: the command did what it says, or found nothing
  1    no: findings, drift, or steps that remain
  2    the question could not be asked: bad input, no permission, no connection
  3    too little is known yet to answer
  130  interrupted

Examples:
  $ partywall up                      put a database under the wall, step by step, and prove it
  $ partywall init --url $DATABASE_URL
  $ partywall check
  $ partywall verify --sarif > partywall.sarif`;

/** Waits for the work; after an interruption for a while only, because a statement may not be cancellable. */
async function orInterrupted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  let timer: NodeJS.Timeout | undefined;
  const onAbort = (): void => {
    timer = setTimeout(() => reject(signal.reason), stopTimeoutMs);
  };
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    const result = await Promise.race([work, promise]);
    signal.throwIfAborted();
    return result;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
  }
}

/** Commander answers a command line without a command with its help, as an error. */
function noCommand(error: unknown): PartywallError | undefined {
  if (!(error instanceof CommanderError) || error.code !== 'commander.help') return undefined;
  return new PartywallError('usage', 'reading the command line: no command given', { hint: 'see `partywall --help`' });
}

function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? '' : `\ncaused by: ${stackOf(error.cause)}`;
  return `${error.stack ?? error.message}${cause}`;
}
