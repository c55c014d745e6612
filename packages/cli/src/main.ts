import { interruptedStatus, run } from './run.ts';

const controller = new AbortController();
process.on('SIGINT', () => {
  // The first Ctrl-C lets the command clean up, the second does not wait for it.
  if (controller.signal.aborted) process.exit(interruptedStatus);
  controller.abort(new Error('interrupted'));
});
process.once('SIGTERM', () => controller.abort(new Error('terminated')));

// A reader that closes early (`partywall diff | head`) has seen what it wanted; the answer's exit status stays what it is.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
}

// A config in a folder whose package.json names no module type makes Node warn; it is loaded all the same.
process.removeAllListeners('warning');
process.on('warning', (warning: Error & { code?: string }) => {
  if (warning.code !== 'MODULE_TYPELESS_PACKAGE_JSON') process.stderr.write(`${warning.name}: ${warning.message}\n`);
});

process.exitCode = await run(process.argv.slice(2), process, controller.signal);
if (process.exitCode === interruptedStatus) {
  // A statement that cannot be cancelled would keep its connection, and so the process, open.
  process.stdout.write('', () => process.exit());
}
