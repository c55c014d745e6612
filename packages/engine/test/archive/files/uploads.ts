import fs from 'node:fs/promises';
import path from 'node:path';
import type { ControlDatabase, Operation, TenancyModel } from '@partywall/engine';

/** The model with the tenants' uploads in a folder. */
export function withUploads(model: TenancyModel, store: string, prefix = '{tenant}/'): TenancyModel {
  return { ...model, archive: { ...model.archive, files: new Map([['uploads', { store, prefix }]]) } };
}

export function operationWith(control: ControlDatabase, model: TenancyModel, operation: Operation): Operation {
  return { ...operation, database: { ...control, model } };
}

/** Every file below a folder with its content; links, folders and drafts of restores that were killed left out. */
export async function contents(folder: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  const entries = await fs.readdir(folder, { withFileTypes: true, recursive: true });
  for (const entry of entries.filter((each) => each.isFile() && !each.name.startsWith('.partywall-'))) {
    const file = path.join(entry.parentPath, entry.name);
    found[path.relative(folder, file)] = (await fs.readFile(file)).toString('latin1');
  }
  return Object.fromEntries(Object.entries(found).sort(([left], [right]) => (left < right ? -1 : 1)));
}

export async function write(folder: string, files: Readonly<Record<string, string | Buffer>>): Promise<void> {
  for (const [name, content] of Object.entries(files)) {
    await fs.mkdir(path.dirname(path.join(folder, name)), { recursive: true });
    await fs.writeFile(path.join(folder, name), content);
  }
}
