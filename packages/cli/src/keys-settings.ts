import { type KekSetting, type KeyringSettings, PartywallError } from '@partywall/engine';
import type { CommandContext } from './context.ts';
import { keyringFolder } from './control.ts';
import { storeUrl } from './store-url.ts';

const commandPrefix = 'command:';

/**
 * Where the environment says that keys are: PARTYWALL_KEYRING, PARTYWALL_KEYS, PARTYWALL_ESCROW and PARTYWALL_KEK.
 *
 * @throws PartywallError usage
 */
export function keyringSettings(ctx: CommandContext): KeyringSettings {
  return {
    keyring: keyringFolder(ctx),
    book: storeUrl(ctx, 'PARTYWALL_KEYS'),
    escrow: storeUrl(ctx, 'PARTYWALL_ESCROW'),
    kek: kekSetting(ctx.env['PARTYWALL_KEK'] || 'file'),
    env: ctx.env,
    clock: () => new Date(),
    signal: ctx.signal,
  };
}

function kekSetting(text: string): KekSetting {
  if (text === 'file' || text === 'env') return { kind: text };
  const command = text.startsWith(commandPrefix) ? text.slice(commandPrefix.length).trim() : '';
  if (command !== '') return { kind: 'command', command };
  // Not what it is instead: somebody may have put the key itself there.
  throw new PartywallError('usage', 'reading PARTYWALL_KEK: it is none of file, env and command:<command>', {
    hint: 'key-encryption keys in the environment are PARTYWALL_KEK_1, PARTYWALL_KEK_2 and so on, with PARTYWALL_KEK=env',
  });
}
