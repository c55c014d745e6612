import { readFileSync } from 'node:fs';

// The manifest is one folder up from the sources and from what is published alike.
const manifest: { version: string } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));

export const { version } = manifest;
