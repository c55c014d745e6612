import { randomUUID } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import { text } from '@partywall/server';
import { current } from '@partywall/wall';
import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import type pg from 'pg';
import { z } from 'zod';

const contentMax = 48 * 1024;
const upload = z.object({ id: z.string(), name: z.string(), path: z.string() });

/** Files lie in a folder of their tenant under names that nobody chose; what they are called is in the row. */
export function registerUploads(instance: FastifyInstance, pool: Pick<pg.Pool, 'query'>, folder: string): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();

  app.post(
    '/api/uploads',
    {
      config: { access: 'member', scope: 'chat:write' },
      schema: { operationId: 'uploadFile', body: z.strictObject({ name: text(200).min(1), content: text(contentMax).min(1) }), response: { 201: upload } },
    },
    async (request, reply) => {
      const { name, content } = request.body;
      const tenant = String(current().tenant);
      const file = `${encodeURIComponent(tenant)}/${randomUUID()}`;
      const target = path.join(folder, file);
      await fs.mkdir(path.dirname(target), { recursive: true });
      await fs.writeFile(target, content, { flag: 'wx' });
      try {
        const { rows } = await pool.query<z.output<typeof upload>>(
          'insert into uploads (tenant_id, name, path, size_bytes) values ($1, $2, $3, $4) returning id, name, path',
          [tenant, name, file, Buffer.byteLength(content)],
        );
        const [row] = rows;
        if (!row) throw new Error('the insert returned no row');
        return reply.code(201).send(row);
      } catch (error) {
        await fs.rm(target, { force: true });
        throw error;
      }
    },
  );
}
