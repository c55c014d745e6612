/**
 * The words that the generator draws from. Domains end in `.example` and telephone numbers cannot be dialled, so nothing
 * here reaches a person.
 */

export const countries = [
  { code: 'AT', name: 'Austria', dial_code: '+43', currency: 'EUR' },
  { code: 'BE', name: 'Belgium', dial_code: '+32', currency: 'EUR' },
  { code: 'CA', name: 'Canada', dial_code: '+1', currency: 'CAD' },
  { code: 'CH', name: 'Switzerland', dial_code: '+41', currency: 'CHF' },
  { code: 'DE', name: 'Germany', dial_code: '+49', currency: 'EUR' },
  { code: 'DK', name: 'Denmark', dial_code: '+45', currency: 'DKK' },
  { code: 'ES', name: 'Spain', dial_code: '+34', currency: 'EUR' },
  { code: 'FI', name: 'Finland', dial_code: '+358', currency: 'EUR' },
  { code: 'FR', name: 'France', dial_code: '+33', currency: 'EUR' },
  { code: 'GB', name: 'United Kingdom', dial_code: '+44', currency: 'GBP' },
  { code: 'IE', name: 'Ireland', dial_code: '+353', currency: 'EUR' },
  { code: 'IT', name: 'Italy', dial_code: '+39', currency: 'EUR' },
  { code: 'NL', name: 'Netherlands', dial_code: '+31', currency: 'EUR' },
  { code: 'NO', name: 'Norway', dial_code: '+47', currency: 'NOK' },
  { code: 'PL', name: 'Poland', dial_code: '+48', currency: 'PLN' },
  { code: 'PT', name: 'Portugal', dial_code: '+351', currency: 'EUR' },
  { code: 'SE', name: 'Sweden', dial_code: '+46', currency: 'SEK' },
  { code: 'US', name: 'United States', dial_code: '+1', currency: 'USD' },
] as const;

/** Where a tenant's customers are, by weight; the rest are spread over all countries. */
export const homeMarkets: Readonly<Record<string, readonly (readonly [code: string, weight: number])[]>> = {
  'alder-freight': [
    ['DE', 9],
    ['NL', 6],
    ['SE', 5],
    ['NO', 5],
    ['DK', 4],
    ['PL', 4],
    ['BE', 3],
    ['FI', 2],
  ],
  'brightwater-solar': [
    ['GB', 14],
    ['IE', 4],
    ['ES', 3],
    ['PT', 2],
  ],
  'cobalt-studio': [
    ['US', 10],
    ['CA', 3],
    ['GB', 2],
  ],
};

export const firstNames =
  'Aisha Albert Alice Amara Anders Anna Anton Beatriz Ben Bianca Bjorn Carla Carmen Chidi Chloe Clara Daniel David Diego Eleni Elias Elin Emma Erik Esther Eva Fatima Felix Finn Freya George Greta Hana Hannah Hassan Helena Henrik Hugo Ida Imani Ines Isaac Isla Ivan Jakub James Jana Jasper Joanna Johan Jonas Julia Kaito Karim Katarina Kwame Lars Laura Lea Leila Leo Lina Linnea Lucas Lucia Maja Malik Marek Maria Marta Mateo Maya Mia Mikkel Mina Naomi Nadia Nils Noah Nora Oliver Olivia Omar Oscar Paul Pavel Petra Rachel Rafael Rosa Ruben Samir Sara Selma Simon Sofia Stefan Tara Teo Thea Thomas Tilda Tomas Uma Valentina Vera Viktor Wanda William Yara Yusuf Zoe'.split(
    ' ',
  );

export const lastNames =
  'Adebayo Aguilar Andersen Baker Bauer Becker Bergstrom Bianchi Boateng Brandt Bruun Campbell Carvalho Castillo Chen Claes Costa Dahl Danjuma Davies Dubois Eriksen Evans Ferreira Fischer Fraser Garcia Gomez Gruber Haddad Hansen Hartmann Hughes Ibrahim Ito Jansen Jensen Johansson Kaminski Karlsson Kaur Keller Khan Kovac Kowalski Kruger Larsen Laurent Lehmann Lindqvist Lopez Maas Madsen Maier Marino Martin Mensah Meyer Moreau Morgan Murphy Nakamura Nguyen Nielsen Novak Nowak Nyberg Okafor Okoye Olsen Ortiz Park Patel Pereira Peters Petrov Quinn Ramos Reid Rossi Roux Ruiz Santos Sato Schmid Schneider Silva Singh Sorensen Stewart Strand Svensson Takahashi Taylor Torres Vandenberg Vasquez Virtanen Vogel Wagner Walsh Weber Wilson Winter Wood Yilmaz Zhang Ziegler'.split(
    ' ',
  );

/** First words of company names. */
export const companyStems =
  'Aalto Acorn Amber Anchor Arbor Arden Aspen Atlas Aurora Avon Barrow Basalt Beacon Birch Blackthorn Bluebell Borealis Bramble Bridgeway Brook Cairn Calder Canopy Cedar Chalk Cinder Clearwater Clover Coral Corvid Cotswold Crescent Dale Delta Dovetail Dune Eastgate Echo Elm Ember Estuary Evergreen Falcon Fern Fjord Flint Foxglove Foundry Garnet Glacier Glen Granite Gull Halcyon Harbour Hawthorn Hazel Heath Heron Highfield Hollow Ironbridge Isle Ivory Juniper Keel Kestrel Kiln Lantern Larch Lattice Linden Lowland Magnet Maple Marlow Meadow Meridian Millstone Mistral Moor Moss Nettle North Oak Oriel Osprey Otter Pebble Pine Pioneer Plover Poplar Quarry Quill Raven Redwood Reed Ridge Rowan Saddle Saffron Sage Sandstone Sequoia Silver Skylark Slate Solstice Sparrow Spruce Starling Stonefield Summit Swift Tallow Teal Thistle Thornbury Tide Timber Torrent Trellis Umber Vale Verdant Vista Walnut Waterford Wharf Willow Winterbourne Wren Yarrow Yew Zephyr'.split(
    ' ',
  );

export interface Industry {
  readonly name: string;
  readonly suffixes: readonly string[];
}

export const industries: readonly Industry[] = [
  { name: 'Logistics', suffixes: ['Haulage', 'Logistics', 'Cargo', 'Transport'] },
  { name: 'Manufacturing', suffixes: ['Works', 'Industries', 'Manufacturing', 'Components'] },
  { name: 'Retail', suffixes: ['Stores', 'Outfitters', 'Supply', 'Trading'] },
  { name: 'Construction', suffixes: ['Builders', 'Construction', 'Homes', 'Civil'] },
  { name: 'Food and drink', suffixes: ['Foods', 'Bakery', 'Brewing', 'Farms'] },
  { name: 'Energy', suffixes: ['Energy', 'Power', 'Renewables'] },
  { name: 'Health care', suffixes: ['Clinics', 'Dental', 'Health', 'Care'] },
  { name: 'Hospitality', suffixes: ['Hotels', 'Leisure', 'Catering'] },
  { name: 'Software', suffixes: ['Software', 'Systems', 'Labs', 'Data'] },
  { name: 'Professional services', suffixes: ['Partners', 'Associates', 'Consulting', 'Advisory'] },
  { name: 'Education', suffixes: ['Academy', 'Schools', 'Learning'] },
  { name: 'Media', suffixes: ['Media', 'Press', 'Pictures', 'Design'] },
];

export const legalForms: Readonly<Record<string, readonly string[]>> = {
  AT: ['GmbH'],
  BE: ['BV'],
  CA: ['Inc.', 'Ltd.'],
  CH: ['AG', 'GmbH'],
  DE: ['GmbH', 'AG', 'KG'],
  DK: ['ApS', 'A/S'],
  ES: ['S.L.', 'S.A.'],
  FI: ['Oy'],
  FR: ['SARL', 'SAS'],
  GB: ['Ltd', 'plc', 'LLP'],
  IE: ['Ltd'],
  IT: ['S.r.l.'],
  NL: ['B.V.'],
  NO: ['AS'],
  PL: ['Sp. z o.o.'],
  PT: ['Lda'],
  SE: ['AB'],
  US: ['Inc.', 'LLC', 'Corp.'],
};

export const jobTitles = [
  'Managing Director',
  'Chief Executive',
  'Finance Director',
  'Head of Procurement',
  'Purchasing Manager',
  'Operations Manager',
  'Office Manager',
  'IT Manager',
  'Facilities Manager',
  'Project Manager',
  'Marketing Lead',
  'Accountant',
  'Founder',
  'Warehouse Supervisor',
];

export const stages = [
  { name: 'Qualified', win_probability: 10 },
  { name: 'Needs understood', win_probability: 25 },
  { name: 'Proposal sent', win_probability: 50 },
  { name: 'Negotiation', win_probability: 75 },
  { name: 'Verbal agreement', win_probability: 90 },
] as const;

export const pipelineNames = ['New business', 'Renewals', 'Partners'] as const;

/** What each tenant sells. */
export const products: Readonly<Record<string, readonly string[]>> = {
  'alder-freight': ['Groupage contract', 'Full truck loads', 'Cold chain lane', 'Customs clearance', 'Warehouse space', 'Return logistics', 'Weekly line haul'],
  'brightwater-solar': [
    'Roof survey',
    '50 kW rooftop array',
    '250 kW rooftop array',
    'Battery storage',
    'Maintenance plan',
    'Inverter replacement',
    'Carport array',
  ],
  'cobalt-studio': ['Brand refresh', 'Website redesign', 'Annual report', 'Packaging range', 'Photography retainer', 'Campaign film'],
};

export const tagNames = [
  ['key account', 'red'],
  ['newsletter', 'blue'],
  ['at risk', 'orange'],
  ['partner', 'green'],
  ['public sector', 'purple'],
  ['referral', 'teal'],
  ['trade fair', 'yellow'],
  ['late payer', 'brown'],
  ['pilot', 'pink'],
  ['do not call', 'grey'],
] as const;

export const activitySubjects: Readonly<Record<'call' | 'email' | 'meeting' | 'task', readonly string[]>> = {
  call: ['Introduction call', 'Follow-up call', 'Call about the quote', 'Check-in', 'Call back about delivery dates'],
  email: ['Sent the brochure', 'Sent the revised quote', 'Answered questions on terms', 'Shared references', 'Thanked for the meeting'],
  meeting: ['Site visit', 'Kick-off meeting', 'Quarterly review', 'Demo at their office', 'Lunch with the board'],
  task: ['Prepare the proposal', 'Chase the signature', 'Update the forecast', 'Check the credit limit', 'Collect requirements'],
};

/** `{product}` and `{person}` are filled in. */
export const noteTemplates = [
  'Spoke with {person}: interested in {product}, budget is decided after the summer.',
  '{person} asks for a single invoice per quarter.',
  'They compare us with two others on {product}. Price matters less than lead time.',
  'Moved offices; the new address is on the last order.',
  '{person} leaves at the end of the month, ask who takes over.',
  'Happy with {product} so far, open to a case study.',
  'Complained about the last delivery. {person} wants a call from a manager.',
  'Credit check came back clean.',
  'Group decision: the parent company has to sign everything above 20,000.',
  'Prefers e-mail. Do not call before ten.',
  'Renewal of {product} is due in spring; start early this time.',
  'Met {person} at the trade fair, sent the brochure for {product}.',
];

export const fileKinds = [
  { name: 'Proposal', extension: 'pdf', contentType: 'application/pdf' },
  { name: 'Quote', extension: 'pdf', contentType: 'application/pdf' },
  { name: 'Signed contract', extension: 'pdf', contentType: 'application/pdf' },
  { name: 'Price list', extension: 'xlsx', contentType: 'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet' },
  { name: 'Site photo', extension: 'jpg', contentType: 'image/jpeg' },
  { name: 'Meeting minutes', extension: 'docx', contentType: 'application/vnd.openxmlformats-officedocument.wordprocessingml.document' },
] as const;
