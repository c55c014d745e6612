import { relations } from 'drizzle-orm';
import { integer, numeric, pgTable, text, unique, uuid } from 'drizzle-orm/pg-core';

export const countries = pgTable('countries', { code: text().primaryKey(), name: text().notNull() });

export const tenants = pgTable('tenants', { id: uuid().primaryKey(), name: text().notNull() });

export const customers = pgTable(
  'customers',
  {
    id: uuid().primaryKey().defaultRandom(),
    tenantId: uuid('tenant_id')
      .notNull()
      .references(() => tenants.id, { onDelete: 'cascade' }),
    email: text().notNull(),
    name: text().notNull(),
    countryCode: text('country_code').references(() => countries.code),
  },
  (table) => [unique('customers_tenant_id_email_key').on(table.tenantId, table.email)],
);

export const invoices = pgTable('invoices', {
  id: uuid().primaryKey().defaultRandom(),
  customerId: uuid('customer_id')
    .notNull()
    .references(() => customers.id, { onDelete: 'cascade' }),
  number: integer().notNull(),
});

export const lines = pgTable('lines', {
  id: integer().primaryKey().generatedByDefaultAsIdentity(),
  invoiceId: uuid('invoice_id')
    .notNull()
    .references(() => invoices.id, { onDelete: 'cascade' }),
  text: text().notNull(),
  amount: numeric({ precision: 12, scale: 2 }).notNull(),
});

export const invoiceRelations = relations(invoices, ({ one, many }) => ({
  customer: one(customers, { fields: [invoices.customerId], references: [customers.id] }),
  lines: many(lines),
}));

export const lineRelations = relations(lines, ({ one }) => ({ invoice: one(invoices, { fields: [lines.invoiceId], references: [invoices.id] }) }));
