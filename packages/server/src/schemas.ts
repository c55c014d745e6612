import { z } from 'zod';

/**
 * Pieces that the schemas of the routes are made of. Every string is bounded and is text that PostgreSQL can hold: no NUL, no half of a
 * surrogate pair, which would be stored as another character.
 */
export function text(charactersMax: number): z.ZodString {
  return z
    .string()
    .max(charactersMax)
    .regex(/^[^\0\p{Cs}]*$/u, 'holds a character that is not text');
}

/** The same with something in it beside space. */
export function filledText(charactersMax: number): z.ZodString {
  return text(charactersMax).regex(/\S/, 'is empty');
}

/** Key of a tenant as text, whatever its type in the database. */
export const tenantId = text(200).min(1).describe('Key of the tenant');

/** For routes that have the tenant in their path. */
export const tenantParams = z.strictObject({ id: tenantId });

/** Yes or no in a query. */
export const flag = z.enum(['true', 'false']).transform((given) => given === 'true');

/** Why something is done; recorded with it. */
export const reason = text(1_000).describe('Why; recorded in the audit log');

/** A time in answers: ISO 8601 in UTC. */
export const time = z.iso.datetime();

/**
 * A body that may be left out, content type included, as `curl -X POST` does.
 *
 * @param schema accepts `{}`, which is what the handler then sees
 */
export function optionalBody<Schema extends z.ZodObject>(schema: Schema): z.ZodPipe<z.ZodNullable<Schema>, z.ZodTransform<z.output<Schema>>> {
  // Fastify hands a missing body to the validator as null.
  return schema.nullable().transform((given): z.output<Schema> => given ?? schema.parse({}));
}

/** Problem details (RFC 9457): the body of every answer from 400 up. */
export const problemSchema = z
  .looseObject({
    type: z.string().describe('urn:partywall:problem:<code>'),
    title: z.string(),
    status: z.int(),
    detail: z.string(),
    code: z.string().describe('Stable code, listed in docs/errors.md'),
    requestId: z.string(),
    hint: z.string().optional(),
    details: z.array(z.string()).optional(),
    errors: z.array(z.object({ field: z.string(), message: z.string() })).optional(),
  })
  .describe('What went wrong; members beside these, such as quota, limit and usage, depend on the code');
z.globalRegistry.add(problemSchema, { id: 'Problem' });
