import { z } from 'zod';

/** What both servers answer, and the text of the query; the bare one adds a condition on the tenant. */
export const querystring = z.strictObject({ limit: z.coerce.number().int().min(1).max(200).default(50) });

export const page = z.object({
  items: z.array(
    z.object({
      id: z.string(),
      name: z.string(),
      industry: z.string().nullable(),
      phone: z.string().nullable(),
      employees: z.number().nullable(),
      archived: z.boolean(),
      createdAt: z.date(),
    }),
  ),
});

export type Customer = z.output<typeof page>['items'][number];

export function listCustomers(condition: string): string {
  return `select id, name, industry, phone, employees, archived, created_at as "createdAt" from public.customers ${condition} order by name, id limit $1`;
}
