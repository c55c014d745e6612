import fs from 'node:fs/promises';
import { registerHooks } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { PartywallError, parseModel, sqlState, type TenancyModel } from '@partywall/engine';
import type { CommandContext } from './context.ts';

export const configName = 'partywall.config.ts';

export interface LoadedConfig {
  readonly file: string;
  readonly model: TenancyModel;
}

/**
 * Loads the tenancy model of the config that the command works with.
 *
 * @throws PartywallError config_missing, config_malformed (cannot be read as a module, or has another shape), model_invalid
 */
export async function loadConfig(ctx: CommandContext): Promise<LoadedConfig> {
  const file = await findConfig(ctx);
  if (file === undefined) {
    const { config } = ctx.options;
    const message =
      config === undefined
        ? `looking for ${configName} in ${ctx.cwd} and the folders above it: there is none`
        : `reading ${path.resolve(ctx.cwd, config)}: there is no such file`;
    throw new PartywallError('config_missing', message);
  }
  return { file, model: parseModel(await importConfig(file)) };
}

/** The file --config names, else the nearest partywall.config.ts in the working directory or above it. */
export async function findConfig(ctx: CommandContext): Promise<string | undefined> {
  if (ctx.options.config !== undefined) {
    const file = path.resolve(ctx.cwd, ctx.options.config);
    return (await isFile(file)) ? file : undefined;
  }
  for (let folder = ctx.cwd; ; folder = path.dirname(folder)) {
    const file = path.join(folder, configName);
    if (await isFile(file)) return file;
    if (folder === path.dirname(folder)) return undefined;
  }
}

/** The model of a config that is not written yet: as it would be read from `file`, whose neighbours its imports may name. */
export async function modelOfText(text: string, file: string): Promise<TenancyModel> {
  const draft = path.join(path.dirname(file), `.${path.basename(file, '.ts')}.${process.pid}.draft.ts`);
  await fs.writeFile(draft, text);
  try {
    return parseModel(await importConfig(draft));
  } finally {
    await fs.rm(draft, { force: true });
  }
}

async function importConfig(file: string): Promise<unknown> {
  resolveOwnName();
  // A module is cached by its address: one that carries the time of the last change is read again after a change.
  const { mtimeMs } = await fs.stat(file);
  let module: { default?: unknown };
  try {
    module = await import(`${pathToFileURL(file).href}?changed=${mtimeMs}`);
  } catch (cause) {
    throw unreadable(file, cause);
  }
  if (module.default === undefined) throw new PartywallError('config_malformed', `reading ${file}: it has no default export`);
  return module.default;
}

function unreadable(file: string, cause: unknown): PartywallError {
  const message = (cause instanceof Error ? cause.message : String(cause)).split('\n', 1)[0] ?? '';
  const line = cause instanceof Error ? lineOf(file, cause.stack ?? '') : undefined;
  const missing = sqlState(cause) === 'ERR_MODULE_NOT_FOUND';
  return new PartywallError('config_malformed', `reading ${file}${line === undefined ? '' : `:${line}`}: ${message}`, {
    cause,
    ...(missing && {
      hint: `a config imports only what can be found from ${path.dirname(file)}; \`partywall\` itself needs no installation there, any other package does`,
    }),
  });
}

/** The line of the config that a stack names first; Node prints the path of a syntax error bare, other positions as an address. */
function lineOf(file: string, stack: string): string | undefined {
  for (const name of [file, `${pathToFileURL(file).href}`]) {
    const at = stack.indexOf(name);
    const line = at < 0 ? undefined : /^(?:\?changed=[\d.]+)?:(\d+)/.exec(stack.slice(at + name.length))?.[1];
    if (line !== undefined) return line;
  }
  return undefined;
}

let ownNameResolves = false;

/**
 * `import { defineTenancy } from 'partywall'` in a config means the command that reads it: also where no package of that name is
 * installed beside the config, and where another version is.
 */
function resolveOwnName(): void {
  if (ownNameResolves) return;
  ownNameResolves = true;
  const own = new URL(import.meta.url.endsWith('.ts') ? './index.ts' : './index.js', import.meta.url).href;
  registerHooks({
    resolve: (specifier, context, next) => (specifier === 'partywall' ? { url: own, shortCircuit: true } : next(specifier, context)),
  });
}

async function isFile(file: string): Promise<boolean> {
  try {
    return (await fs.stat(file)).isFile();
  } catch (error) {
    const code = sqlState(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return false;
    throw new PartywallError('config_missing', `reading ${file}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}
