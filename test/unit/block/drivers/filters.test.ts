// Every filter, through the battery that all of them go through; `raw` without a window is one in all but name.

import { type FilterRow, filterBattery } from './filter-battery.ts';

const filters: Readonly<Record<string, FilterRow>> = {
  raw: {
    options: { file: 'below' },
    filename: /^json:.*"driver": "raw"/,
  },
  throttle: {
    options: { file: 'below', 'throttle-group': 'g' },
    prepare: async (_graph, objects) => objects.add({ 'qom-type': 'throttle-group', id: 'g' }),
  },
};

for (const [name, row] of Object.entries(filters)) filterBattery(name, row);
