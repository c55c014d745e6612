import swagger, { type SwaggerTransform } from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { FastifyInstance } from 'fastify';
import { jsonSchemaTransform, jsonSchemaTransformObject } from 'fastify-type-provider-zod';
import type { Access } from './access.ts';
import { idempotencyKeyCharactersMax, takesIdempotencyKey } from './idempotency.ts';

/**
 * The description of the API, made of the routes' own schemas: what validates a request is what is documented. Routes of the application
 * that the server is mounted in are in it too.
 */
const documentPath = '/api/openapi.json';
const docsPath = '/api/docs';

const securitySchemes = {
  bearer: { type: 'http', scheme: 'bearer', description: 'Token of a session, or an API key' },
  apiKey: { type: 'apiKey', in: 'header', name: 'X-API-Key' },
} as const;

/** The browsable form loads its own files and the document, nothing from elsewhere, and runs nothing inline. */
const docsPolicy = {
  'default-src': "'none'",
  'script-src': "'self'",
  'style-src': "'self'",
  'img-src': "'self' data:",
  'connect-src': "'self'",
  'base-uri': "'none'",
  'form-action': "'none'",
  'frame-ancestors': "'none'",
};

/** Call before the routes are registered, and before their access is asked for: the pages of the documentation declare none. */
export async function registerOpenApi(app: FastifyInstance): Promise<void> {
  app.addHook('onRoute', (route) => {
    if (route.url === docsPath || route.url.startsWith(`${docsPath}/`)) route.config = { access: 'public', counted: false, ...route.config };
  });
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Partywall',
        version: '0.1.0',
        description: 'The control plane: tenants, people, quotas, usage, alerts, audit. Failures are problem details (RFC 9457).',
      },
      components: { securitySchemes },
    },
    convertConstToEnum: false,
    transform: describe,
    transformObject: (document) => complete(jsonSchemaTransformObject(document)),
  });
  await app.register(swaggerUi, { routePrefix: docsPath, staticCSP: docsPolicy, uiConfig: { docExpansion: 'list', validatorUrl: null } });
}

/** The document itself; a route like others. */
export function registerDocument(app: FastifyInstance): void {
  app.get(
    documentPath,
    { config: { access: 'public', counted: false }, schema: { operationId: 'getOpenApi', summary: 'This document', tags: ['server'], security: [] } },
    async (_request, reply) => reply.type('application/json').serializer(JSON.stringify).send(app.swagger()),
  );
}

/** Adds what a route's `config` says: who may call it, by what, for which tenant, and whether it takes an idempotency key. */
const describe: SwaggerTransform = (given) => {
  const { route } = given;
  const { config } = route;
  if (route.method === 'HEAD' || given.url.startsWith(docsPath)) return { schema: { hide: true }, url: given.url };
  const { schema, url } = jsonSchemaTransform(given);
  const access: Access = config?.access ?? 'public';
  const headers = {
    ...(access !== 'public' &&
      access !== 'signed_in' &&
      config?.tenant !== 'none' &&
      config?.tenant !== 'path' &&
      access !== 'super_admin' && { 'x-tenant-id': tenantHeader }),
    ...(takesIdempotencyKey([route.method].flat(), config) && { 'idempotency-key': idempotencyHeader }),
  };
  return {
    url,
    schema: {
      ...schema,
      ...(Object.keys(headers).length > 0 && { headers: { type: 'object', properties: headers } }),
      security: access === 'public' ? [] : [{ bearer: [] }, ...(config?.scope === undefined ? [] : [{ apiKey: [] }])],
      'x-partywall-access': access,
      ...(config?.scope !== undefined && { 'x-partywall-scope': config.scope }),
    },
  };
};

const tenantHeader = { type: 'string', maxLength: 200, description: 'Tenant to act on; needed by people who belong to several' };
const idempotencyHeader = {
  type: 'string',
  minLength: 1,
  maxLength: idempotencyKeyCharactersMax,
  description: 'The same request with the same key is done once within 24 hours',
};

const methods = ['get', 'put', 'post', 'patch', 'delete'] as const;

/** Adds the answers that every route can give, and makes bodies that may be null ones that may be missing. */
function complete(document: ReturnType<typeof jsonSchemaTransformObject>): ReturnType<typeof jsonSchemaTransformObject> {
  for (const item of Object.values(document.paths ?? {})) {
    for (const method of methods) {
      const operation = item?.[method];
      if (!operation) continue;
      Object.assign(operation.responses ?? {}, { '4XX': problemResponse, '5XX': problemResponse });
      const body = 'requestBody' in operation ? operation.requestBody : undefined;
      if (!body || !('content' in body)) continue;
      const schema = body.content['application/json']?.schema;
      if (!schema || !('anyOf' in schema) || !schema.anyOf) continue;
      const [given, ...others] = schema.anyOf.filter((one: object) => !('type' in one && Object.is(one.type, 'null')));
      if (!given || others.length > 0 || schema.anyOf.length !== 2) continue;
      body.required = false;
      body.content = { 'application/json': { schema: given } };
    }
  }
  return document;
}

const problemResponse = {
  description: 'A problem',
  content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
};
