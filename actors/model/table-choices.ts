// How tables may be kept: words that nodes are configured with and that namespaces choose. The
// model's own, since requests and the catalog speak of them without knowing how tables are made.

/** Which tables are merged, and into what: actors/storage/compaction-picker.ts. */
export const compactionStrategies = ['leveled', 'size-tiered', 'time-window'] as const;
export type CompactionStrategy = (typeof compactionStrategies)[number];

/** `auto`: Zstd where tables are rarely written again, LZ4 everywhere else. */
export const compressions = ['auto', 'none', 'lz4', 'zstd'] as const;
export type Compression = (typeof compressions)[number];

/** Name of the compaction group of all namespaces that have chosen nothing; no namespace is called so. */
export const usualGroup = '*';
