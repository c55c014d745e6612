import path from 'node:path';
import type { CommandContext } from './context.ts';

/** The store that a variable names; undefined where it is not set. A path is taken from where the command runs. */
export function storeUrl(ctx: CommandContext, name: string): string | undefined {
  const url = ctx.env[name];
  if (!url) return undefined;
  return URL.canParse(url) ? url : path.resolve(ctx.cwd, url);
}
