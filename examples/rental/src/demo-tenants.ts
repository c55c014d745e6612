interface DemoUnit {
  readonly id: string;
  readonly name: string;
}

export interface DemoTenant {
  readonly id: string;
  readonly slug: string;
  readonly name: string;
  readonly status: 'ACTIVE' | 'SUSPENDED';
  readonly user: { readonly email: string; readonly name: string };
  readonly units: readonly DemoUnit[];
}

/** Two who work and one who has not paid. Ids are constants, so that a command written once keeps working; a canary of 10 % holds Atlas and not Boreal. */
export const demoTenants = [
  {
    id: 'd26cc4f1-ad97-48cf-a88c-b1f2df5eece0',
    slug: 'atlas-cranes',
    name: 'Atlas Cranes',
    status: 'ACTIVE',
    user: { email: 'ana@atlas-cranes.example', name: 'Ana Duarte' },
    units: [
      { id: '0f4a9b1e-52c7-4b9e-8a0c-6d1f3e7b2a11', name: 'North' },
      { id: '0f4a9b1e-52c7-4b9e-8a0c-6d1f3e7b2a12', name: 'South' },
    ],
  },
  {
    id: '38dc6da6-d045-40a1-ac34-2ce53a752f1b',
    slug: 'boreal-rentals',
    name: 'Boreal Rentals',
    status: 'ACTIVE',
    user: { email: 'bo@boreal-rentals.example', name: 'Bo Lindgren' },
    units: [{ id: '9c3d7e20-1b64-4f0d-9e55-2a8b7c6d5e21', name: 'Harbour' }],
  },
  {
    id: '406d0064-9c62-4382-8de0-3f0a6f170cda',
    slug: 'cargo-box',
    name: 'Cargo Box',
    status: 'SUSPENDED',
    user: { email: 'cy@cargo-box.example', name: 'Cy Moreno' },
    units: [{ id: 'c71b52d8-8e0a-4d3c-b6f9-4e5d6c7b8a31', name: 'Depot' }],
  },
] as const satisfies readonly DemoTenant[];
