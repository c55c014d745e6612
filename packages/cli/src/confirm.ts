import { PartywallError } from '@partywall/engine';
import type { CommandContext } from './context.ts';

/**
 * Goes on when --yes was given or a person says yes. The plan has been printed before.
 *
 * @throws PartywallError confirmation_required
 */
export async function confirmed(ctx: CommandContext, flags: { readonly yes?: true }, deed: string): Promise<void> {
  if (flags.yes) return;
  if (ctx.talk.interactive && (await ctx.talk.confirm(`${deed}?`, ctx.signal))) return;
  throw new PartywallError('confirmation_required', `about to ${deed}: not confirmed, nothing was changed`);
}
