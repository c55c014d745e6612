import { parseArgs } from 'node:util';
import { type BenchModule, listBenches, runBench } from './harness.ts';
import { renderTable } from './report.ts';

/** `npm run bench -- <name> [--json] [--quick]`: exit 0 when every check keeps its bound, 1 when one does not, 2 when it could not run. */
async function main(args: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    options: { json: { type: 'boolean' }, quick: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
    allowPositionals: true,
  });
  const names = await listBenches(import.meta.dirname);
  const [name, ...more] = positionals;
  if (values.help || name === undefined || more.length > 0 || !names.includes(name)) {
    const list = await Promise.all(names.map(async (known) => `  ${known.padEnd(10)} ${(await load(known)).about}`));
    console.error([`usage: npm run bench -- <name> [--json] [--quick]`, ...list].join('\n'));
    return values.help ? 0 : 2;
  }

  const controller = new AbortController();
  process.once('SIGINT', () => controller.abort(new Error('interrupted')));
  const say = (text: string): void => console.error(text);
  const result = await runBench(name, await load(name), { quick: values.quick ?? false, signal: controller.signal, say });
  if (values.json) console.log(JSON.stringify(result));
  else console.log(`${renderTable(name, result.machine, result)}${result.quick ? '\nquick run: the figures are not for quoting' : ''}`);
  return result.checks.every((check) => check.ok) ? 0 : 1;
}

async function load(name: string): Promise<BenchModule> {
  // A benchmark is typed where it is written; the folder's naming rule is what brings it here.
  return (await import(`./${name}.bench.ts`)) as BenchModule;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  console.error(`bench: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 2;
}
