import { PartywallError } from '@partywall/engine';

type Stops = (() => Promise<unknown>)[];

/** Runs `main` until Ctrl-C or SIGTERM; what it pushed is stopped in reverse, also when a part of it failed. A failure is one line. */
export async function runUntilStopped(main: (stops: Stops, signal: AbortSignal) => Promise<void>): Promise<void> {
  const controller = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => controller.abort(new Error(`stopped by ${name}`)));
  const stops: Stops = [];
  try {
    try {
      await main(stops, controller.signal);
    } finally {
      for (const stop of stops.reverse()) await stop();
    }
  } catch (error) {
    if (controller.signal.aborted) return;
    const known = error instanceof PartywallError;
    console.error(`chatbot: ${error instanceof Error ? error.message : String(error)}${known ? ` (${error.hint})` : ''}`);
    if (known) for (const detail of error.details) console.error(`  ${detail}`);
    process.exitCode = known ? error.exit : 2;
  }
}
