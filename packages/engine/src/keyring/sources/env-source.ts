import { PartywallError } from '../../errors.ts';
import { keyBytes, seal, unseal } from '../sealed.ts';
import type { KeySource } from './key-source.ts';

const variablePattern = /^PARTYWALL_KEK_([1-9]\d{0,8})$/;
/** The one key of the operations manual: version 1, where no variable of our own gives it. */
const manualVariable = 'BACKUP_ENCRYPTION_KEY';

/**
 * Key-encryption keys in the environment, `PARTYWALL_KEK_<version>`: 64 hex digits, as `openssl rand -hex 32` prints them. Making and destroying
 * one is the operator's part.
 *
 * @throws PartywallError keyring_refused: a variable is no key, or there is none
 */
export function envSource(env: Readonly<Record<string, string | undefined>>): KeySource {
  const keys = new Map<number, Buffer>();
  for (const [name, value] of Object.entries(env)) {
    const number = variablePattern.exec(name)?.[1];
    if (number !== undefined && value) keys.set(Number(number), parsed(name, value));
  }
  const manual = env[manualVariable];
  if (manual && !keys.has(1)) keys.set(1, parsed(manualVariable, manual));

  const versions = [...keys.keys()].sort((a, b) => a - b);
  const keyOf = (version: number): Buffer => {
    const key = keys.get(version);
    if (key) return key;
    throw new PartywallError('keyring_refused', `looking for key-encryption key ${version}: PARTYWALL_KEK_${version} is not set`, {
      hint: `set PARTYWALL_KEK_${version} to the key that the keybook was written with`,
    });
  };
  return {
    description: 'environment',
    versions: async () => versions,
    wrap: async (version, plain, context) => seal(keyOf(version), plain, context),
    unwrap: async (version, wrapped, context) => {
      const plain = unseal(keyOf(version), wrapped, context);
      if (plain) return plain;
      throw new PartywallError('keyring_refused', `opening a keybook with PARTYWALL_KEK_${version}: it was written with another key, or was changed`);
    },
    create: async (above) => {
      const highest = versions.at(-1) ?? 0;
      if (highest > above) return highest;
      throw new PartywallError('keyring_refused', `making key-encryption key ${above + 1}: PARTYWALL_KEK_${above + 1} is not set`, {
        hint: `set it to what \`openssl rand -hex 32\` prints, and leave PARTYWALL_KEK_${above || 1} as it is`,
      });
    },
    destroy: async (version) => (keys.has(version) ? 'pending' : 'destroyed'),
    close: async () => {},
  };
}

function parsed(name: string, value: string): Buffer {
  // Without the value, which is a secret that may have one character too many.
  if (!/^[0-9a-f]{64}$/i.test(value)) {
    throw new PartywallError('keyring_refused', `reading ${name}: not ${2 * keyBytes} hex digits`, { hint: 'make one with `openssl rand -hex 32`' });
  }
  return Buffer.from(value, 'hex');
}
