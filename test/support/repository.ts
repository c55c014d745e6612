import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

export const root = path.resolve(import.meta.dirname, '../..');

/** Files of the checkout that git tracks or would track, relative to its root. */
export function repositoryFiles(): string[] {
  const listed = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], { cwd: root, encoding: 'utf8' });
  return listed.split('\n').filter((file) => file !== '' && existsSync(path.join(root, file)));
}

export function read(file: string): string {
  return readFileSync(path.join(root, file), 'utf8');
}

/** What a module imports or re-exports, as written, also by `import()`. Statements start a line, as the formatter leaves them. */
export function importsOf(file: string): string[] {
  const code = read(file);
  const statements = /^(?:import|export)\s(?:[^'"`;]*?\sfrom\s)?'([^']+)'/gm;
  return [statements, /\bimport\('([^']+)'\)/g].flatMap((pattern) => [...code.matchAll(pattern)].map((match) => match[1] ?? ''));
}

export interface DocLink {
  readonly file: string;
  readonly target: string;
}

/** Links of a Markdown file that point into the repository. */
export function localLinks(file: string): DocLink[] {
  const text = read(file).replaceAll(/```[\s\S]*?```/g, '');
  return [...text.matchAll(/\]\(([^)\s]+)\)/g)].map((match) => ({ file, target: match[1] ?? '' })).filter((link) => !/^[a-z]+:/.test(link.target));
}

/** Anchors that a Markdown file offers: its headings in GitHub's form. */
export function anchorsOf(file: string): Set<string> {
  const headings = [...read(file).matchAll(/^#{1,6}\s+(.+)$/gm)].map((match) => match[1] ?? '');
  return new Set(
    headings.map((heading) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
        .trim()
        .replaceAll(/\s/g, '-'),
    ),
  );
}
