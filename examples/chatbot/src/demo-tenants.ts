/** The tiers of the operations document; each is the plan of the same name. */
export const tiers = ['enterprise', 'pro', 'starter', 'free'] as const;
export type Tier = (typeof tiers)[number];

export interface DemoTenant {
  readonly id: string;
  readonly name: string;
  readonly tier: Tier;
  /** Beyond the tier. */
  readonly note?: string;
}

/** Twelve customers. What the notes say of other tiers is what a search through the settings would fall for. */
export const demoTenants: readonly DemoTenant[] = [
  { id: 'demo-tenant', name: 'Demo Tenant', tier: 'pro' },
  { id: 'northwind-bank', name: 'Northwind Bank', tier: 'enterprise' },
  { id: 'harbour-health', name: 'Harbour Health', tier: 'enterprise', note: 'was pro until May' },
  { id: 'lumen-retail', name: 'Lumen Retail', tier: 'pro' },
  { id: 'kestrel-air', name: 'Kestrel Air', tier: 'pro', note: 'asked for enterprise prices' },
  { id: 'maple-clinic', name: 'Maple Clinic', tier: 'starter' },
  { id: 'tide-rentals', name: 'Tide Rentals', tier: 'starter' },
  { id: 'oak-legal', name: 'Oak Legal', tier: 'starter', note: 'product demo in March' },
  { id: 'pebble-cafe', name: 'Pebble Café', tier: 'free', note: 'improvement ideas, profile to be completed' },
  { id: 'finch-books', name: 'Finch Books', tier: 'free' },
  { id: 'juniper-yoga', name: 'Juniper Yoga', tier: 'free' },
  { id: '123', name: 'The Document’s Example', tier: 'free' },
];
