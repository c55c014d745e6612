import { PartywallError } from '../../errors.ts';
import { publicKeys } from '../../keyring/signing.ts';
import { readObject } from '../../store/read-object.ts';
import { type Archive, retiredObject } from '../archive.ts';
import { parseRecord, recordBytesMax } from '../format/record.ts';

/**
 * Subjects that a backup holds no longer, by ref, with when they were retired; its manifest goes on naming them.
 *
 * @throws PartywallError archive_damaged, store_unavailable, store_refused
 */
export async function retiredSubjects({ store, keyring }: Pick<Archive, 'store' | 'keyring'>, backup: string): Promise<ReadonlyMap<string, Date>> {
  const names: string[] = [];
  for await (const { key } of store.list(retiredObject(backup, 0).replace('0.json', ''))) names.push(key);
  const retired = new Map<string, Date>();
  if (names.length === 0) return retired;
  const keys = await publicKeys(keyring);
  for (const key of names) {
    const record = parseRecord(await readObject(store, key, recordBytesMax), { key, backup }, keys);
    if (record.format !== 'partywall.retired/1') throw new PartywallError('archive_damaged', `reading ${key}: it is no record of retired subjects`);
    for (const subject of record.subjects) retired.set(subject, new Date(record.retiredAt));
  }
  return retired;
}
