import { Encrypter } from 'age-encryption';
import { PartywallError } from '../../errors.ts';
import type { TenantFileManifest } from '../export/tenant-file.ts';
import { type TenantFileOptions, writeTenantFile } from '../export/write-tenant-file.ts';
import type { TenantSource } from '../tenant-source.ts';

/** Whoever may open the file: public keys of age (`age1…`), or everybody, which has to be said. */
export type CustomerKeys = { readonly recipients: readonly string[] } | { readonly plain: true };

const recipientsMax = 20;

/**
 * Everything of one tenant as the file that `docs/formats/tenant-file.md` describes, encrypted with age for its customer: piece by piece, at a steady memory.
 * The generator returns the manifest. Nothing is opened before the first piece is asked for.
 *
 * @throws PartywallError input_invalid (no recipient, or one that is no public key of age), and what the source throws
 */
export async function* exportForCustomer(source: TenantSource, keys: CustomerKeys, options: TenantFileOptions): AsyncGenerator<Buffer, TenantFileManifest> {
  if ('plain' in keys) return yield* writeTenantFile(source, options);
  const encrypter = encrypterFor(keys.recipients);
  let manifest: TenantFileManifest | undefined;
  const file = async function* (): AsyncGenerator<Buffer> {
    manifest = yield* writeTenantFile(source, options);
  };
  const encrypted = await encrypter.encrypt(webStream(file()));
  for await (const piece of encrypted) yield Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
  if (!manifest) throw new Error('the file has ended without its manifest');
  return manifest;
}

function encrypterFor(recipients: readonly string[]): Encrypter {
  if (recipients.length === 0 || recipients.length > recipientsMax)
    throw new PartywallError('input_invalid', `encrypting for a customer: ${recipients.length} recipients, where one to ${recipientsMax} are needed`);
  const encrypter = new Encrypter();
  for (const recipient of recipients) {
    if (recipient.startsWith('AGE-SECRET-KEY-')) {
      // Not repeated: it is a secret, and whoever gave it has to know that it was seen.
      throw new PartywallError('input_invalid', 'encrypting for a customer: this is a secret key, where the public one is needed');
    }
    try {
      encrypter.addRecipient(recipient);
    } catch (cause) {
      throw new PartywallError('input_invalid', `encrypting for a customer: ${JSON.stringify(recipient.slice(0, 100))} is no public key of age`, { cause });
    }
  }
  return encrypter;
}

/** One piece at a time: age reads when somebody reads from it. */
function webStream(pieces: AsyncGenerator<Buffer>): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        const { done, value } = await pieces.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: async () => {
        await pieces.return(undefined);
      },
    },
    { highWaterMark: 0 },
  );
}
