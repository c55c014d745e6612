import { sqlState } from '../db/connect.ts';
import { PartywallError } from '../errors.ts';

const full: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);
/** ELOOP: a symbolic link stands where an object should; EEXIST and the folders: an object stands where a folder should, or the other way round. */
const refused: ReadonlySet<string> = new Set(['EACCES', 'EPERM', 'EROFS', 'ELOOP', 'EEXIST', 'ENOTEMPTY', 'EISDIR', 'ENOTDIR', 'ENAMETOOLONG']);
const missing: ReadonlySet<string> = new Set(['ENOENT', 'ENOTDIR', 'EISDIR']);

/** No such file, or a folder where a file would be. */
export function isMissing(error: unknown): boolean {
  return missing.has(sqlState(error) ?? '');
}

/** What the file system said, in the words of a store; everything else (the body's own error, an abort) as it is. */
export function folderError(error: unknown, doing: string): unknown {
  if (error instanceof PartywallError || !isSystemError(error)) return error;
  const code = sqlState(error) ?? '';
  if (full.has(code)) return new PartywallError('store_full', `${doing}: no space left (${code})`, { cause: error });
  if (refused.has(code)) return new PartywallError('store_refused', `${doing}: ${code}`, { cause: error });
  return new PartywallError('store_unavailable', `${doing}: ${code}`, { cause: error });
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'syscall' in error && typeof sqlState(error) === 'string';
}
