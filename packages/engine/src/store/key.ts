import { PartywallError } from '../errors.ts';

/** S3 allows 1,024 bytes; the rest is left to the prefix of the store. */
const keyBytesMax = 700;
/** What file systems allow is 255; a lock or a draft is named after a part. */
const partBytesMax = 200;
/** A part never begins with a dot: that is where a store keeps what is its own, and what `..` begins with. */
const keyPattern = /^[a-z0-9_-][a-z0-9._-]*(?:\/[a-z0-9_-][a-z0-9._-]*)*$/;
const hint = 'keys are relative paths of a-z, 0-9, dot, dash and underscore; no part begins with a dot';

/** @throws PartywallError store_refused: no store could keep such a key, or it would lead out of one */
export function checkKey(key: string): void {
  if (!isKey(key)) {
    throw new PartywallError('store_refused', `${JSON.stringify(key.slice(0, keyBytesMax))} is not the key of an object`, { hint });
  }
}

export function isKey(text: string): boolean {
  return text.length <= keyBytesMax && keyPattern.test(text) && text.split('/').every((part) => part.length <= partBytesMax);
}

/** The beginning of a key, which may end within a part. */
export function checkPrefix(prefix: string): void {
  if (prefix !== '') checkKey(prefix.endsWith('/') ? prefix.slice(0, -1) : prefix);
}

/** The order of a listing: that of the bytes, which for the letters of a key is that of JavaScript. */
export function compareKeys(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0;
}

/** Which texts are keys of a bucket. */
export interface KeyRules {
  check(key: string): void;
  checkPrefix(prefix: string): void;
  is(text: string): boolean;
}

export const archiveKeys: KeyRules = { check: checkKey, checkPrefix, is: isKey };

/** For what somebody else puts there: whatever S3 takes. */
const anyKeyBytesMax = 1_024;
export const anyKeys: KeyRules = {
  check: (key) => {
    if (!anyKeys.is(key)) throw new PartywallError('store_refused', 'a name is not the key of an object: S3 takes 1 to 1,024 bytes of UTF-8');
  },
  checkPrefix: () => undefined,
  is: (text) => text !== '' && text.isWellFormed() && Buffer.byteLength(text) <= anyKeyBytesMax,
};
