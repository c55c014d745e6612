/**
 * The three tenants of the demonstration, with the first user of each. Their ids are constants and not drawn from the
 * seed, so that a token or a curl line written once keeps working.
 */
export interface DemoTenant {
  readonly id: string;
  readonly slug: string;
  readonly name: string;
  readonly plan: 'starter' | 'pro' | 'enterprise';
  readonly createdAt: string;
  readonly currency: string;
  /** Customers that the generator makes; everything else follows from them. */
  readonly customers: number;
  /** Users, the first one included. */
  readonly users: number;
  readonly firstUser: { readonly id: string; readonly name: string; readonly email: string; readonly role: 'admin' };
}

export const demoTenants = [
  {
    id: '0a1de7f0-5d0c-4b5e-9a57-3c1f6b7a2e01',
    slug: 'alder-freight',
    name: 'Alder Freight',
    plan: 'enterprise',
    createdAt: '2024-07-01T08:00:00.000Z',
    currency: 'EUR',
    customers: 1300,
    users: 24,
    firstUser: { id: '7c9e2b64-18f3-4d0a-8b21-90e5d4c3a701', name: 'Ingrid Solheim', email: 'ingrid.solheim@alder-freight.example', role: 'admin' },
  },
  {
    id: 'b2c81e93-7f64-4c1d-8e0b-51d92a6f3c02',
    slug: 'brightwater-solar',
    name: 'Brightwater Solar',
    plan: 'pro',
    createdAt: '2024-11-18T09:30:00.000Z',
    currency: 'GBP',
    customers: 560,
    users: 11,
    firstUser: { id: '3f5a8d17-6b92-4e7c-a4d0-2c71e8f9b502', name: 'Marcus Oyelaran', email: 'marcus.oyelaran@brightwater-solar.example', role: 'admin' },
  },
  {
    id: 'c47f05aa-29b6-4f83-b6c4-e8037d1b5403',
    slug: 'cobalt-studio',
    name: 'Cobalt Studio',
    plan: 'starter',
    createdAt: '2025-09-08T10:15:00.000Z',
    currency: 'USD',
    customers: 140,
    users: 4,
    firstUser: { id: '91d6c3e8-4a05-4f2b-9c78-b6e2f01d8a03', name: 'Priya Raman', email: 'priya.raman@cobalt-studio.example', role: 'admin' },
  },
] as const satisfies readonly DemoTenant[];
