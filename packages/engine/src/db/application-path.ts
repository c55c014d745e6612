import type { TenancyModel } from '../model/model.ts';
import { identList } from './sql.ts';

/**
 * For transactions that write the application's own tables: its triggers may name tables without their schema, as they do in the application's
 * sessions, and the control plane's own search path is empty. Temporary objects come last, where they shadow nothing.
 */
export function setApplicationPath(model: TenancyModel): string {
  return `set local search_path to ${identList(model.schemas)}, pg_temp`;
}
