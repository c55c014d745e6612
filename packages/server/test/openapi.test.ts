import { expect, test } from 'vitest';
import { accessLevels } from '../src/index.ts';
import { type OpenApiDocument, operationsOf } from './openapi.ts';
import { serverFixture } from './server.ts';

const { server } = await serverFixture();
const document: OpenApiDocument = (await server.inject('/api/openapi.json')).json();
const operations = operationsOf(document);

test('the document is OpenAPI 3.1 and has every route of the server', () => {
  expect(document.openapi).toMatch(/^3\.1\./);
  const urls = new Set(operations.map(({ method, path }) => `${method} ${path}`));
  expect(urls).toContain('get /api/health');
  expect(urls.size).toBe(operations.length);
});

test('every operation has a name of its own, a summary, a tag, an access level and its answers', () => {
  const incomplete = operations.filter(({ operation }) => {
    const answers = Object.keys(operation.responses);
    return !(
      operation.operationId &&
      operation.summary &&
      operation.tags?.length &&
      accessLevels.some((level) => level === operation['x-partywall-access']) &&
      answers.some((status) => /^[23]\d\d$/.test(status)) &&
      answers.includes('4XX') &&
      answers.includes('5XX')
    );
  });
  expect(incomplete.map(({ method, path }) => `${method} ${path}`)).toEqual([]);
  const names = operations.map(({ operation }) => operation.operationId);
  expect(names.filter((name, place) => names.indexOf(name) !== place)).toEqual([]);
});

test('every answer with content has a schema, and every reference leads somewhere', () => {
  const bare = operations.flatMap(({ method, path, operation }) =>
    Object.entries(operation.responses)
      .filter(([, { description, content }]) => description === undefined || Object.values(content ?? {}).some(({ schema }) => schema === undefined))
      .map(([status]) => `${method} ${path} ${status}`),
  );
  expect(bare).toEqual([]);
  const references = [...JSON.stringify(document).matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)].map(([, name]) => name ?? '');
  expect(references.filter((name) => !(name in document.components.schemas))).toEqual([]);
});

test('no answer that holds a secret is kept for an idempotency key', () => {
  const kept = operations.filter(({ operation }) => operation.parameters?.some(({ name }) => name === 'idempotency-key'));
  expect(kept.length).toBeGreaterThan(10);
  const secrets = kept.flatMap(({ method, path, operation }) => {
    const answers = JSON.stringify(Object.entries(operation.responses).filter(([status]) => status.startsWith('2')));
    return [...answers.matchAll(/"(\w*(?:secret|token|password|link)\w*|key)":\{/gi)].map(([, name]) => `${method} ${path} ${name}`);
  });
  expect(secrets).toEqual([]);
});

test('every string that a request may hold is bounded, and every object closed', () => {
  const open: string[] = [];
  const walk = (schema: unknown, where: string): void => {
    if (typeof schema !== 'object' || schema === null) return;
    const { type, maxLength, format, pattern, ...rest } = schema as Record<string, unknown>; // JSON Schema
    const bounded = maxLength !== undefined || format !== undefined || isBounded(pattern) || 'enum' in rest || 'const' in rest;
    if (type === 'string' && !bounded) open.push(`${where} is an unbounded string`);
    if (type === 'object' && 'properties' in rest && rest['additionalProperties'] !== false) open.push(`${where} takes unknown fields`);
    for (const [key, value] of Object.entries(rest)) walk(value, `${where}/${key}`);
  };
  for (const { method, path, operation } of operations) {
    for (const parameter of operation.parameters ?? []) walk(parameter.schema, `${method} ${path} ${parameter.name}`);
    for (const { schema } of Object.values(operation.requestBody?.content ?? {})) walk(schema, `${method} ${path} body`);
  }
  expect(open).toEqual([]);
});

/** Whether an anchored pattern repeats nothing without a limit. */
function isBounded(pattern: unknown): boolean {
  if (typeof pattern !== 'string' || !/^\^.*\$$/.test(pattern)) return false;
  const outsideOfClasses = pattern.replaceAll(/\\.|\[(\\.|[^\]])*\]/g, 'x');
  const withoutGroups = outsideOfClasses.replaceAll(/\([^()]*\)/g, 'x');
  return !/[*+]|\{\d+,\}/.test(outsideOfClasses) && !withoutGroups.includes('|');
}

test('the pages of the documentation load nothing from elsewhere and run nothing inline', async () => {
  const page = await server.inject('/api/docs/');
  expect(page.statusCode).toBe(200);
  expect(page.headers['content-security-policy']).toContain("default-src 'none'; script-src 'self'; style-src 'self'");
  expect([...page.body.matchAll(/(?:src|href)="([^"]*)"/g)].map(([, url]) => url).filter((url) => !url?.startsWith('.'))).toEqual([]);
  expect(page.body).not.toMatch(/<script>|<style>| on\w+=/);
  for (const file of ['swagger-ui-bundle.js', 'swagger-ui.css', 'swagger-initializer.js']) {
    expect((await server.inject(`/api/docs/static/${file}`)).statusCode).toBe(200);
  }
  expect((await server.inject('/api/docs/json')).json()).toEqual(document);
});

test('docs/openapi.json is what the server says', async () => {
  // `npx vitest run packages/server/test/openapi.test.ts -u` writes it anew.
  await expect(`${JSON.stringify(document, undefined, 2)}\n`).toMatchFileSnapshot('../../../docs/openapi.json');
});
