import fs from 'node:fs/promises';

/**
 * A name survives a power cut only when its folder is on disk too. Writers of one folder share that: who comes while a sync runs waits for the
 * next one, which all that came meanwhile have in common.
 */
export function folderSync(): (folder: string) => Promise<void> {
  const running = new Map<string, { readonly now: Promise<void>; next?: Promise<void> }>();

  const begin = (folder: string): Promise<void> => {
    const now = syncFolder(folder).finally(() => {
      if (running.get(folder)?.now === now) running.delete(folder);
    });
    running.set(folder, { now });
    return now;
  };

  return (folder) => {
    const sync = running.get(folder);
    if (!sync) return begin(folder);
    sync.next ??= sync.now.then(
      () => begin(folder),
      () => begin(folder),
    );
    return sync.next;
  };
}

async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return; // folders cannot be opened there
  const handle = await fs.open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
