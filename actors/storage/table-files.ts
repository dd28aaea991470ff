// Names of table files: the file number in ten digits, so that names sort as numbers do. Only the
// manifest says which of them count; a name alone means nothing (MF-6).

export const tableName = (fileNumber: number): string =>
  `${String(fileNumber).padStart(10, '0')}.sst`;

export const tablePath = (directory: string, fileNumber: number): string =>
  `${directory}/tables/${tableName(fileNumber)}`;

/** The number in a table's file name; undefined for any other file. */
export function tableNumber(name: string): number | undefined {
  const match = /^(\d{10})\.sst$/.exec(name);
  return match === null ? undefined : Number(match[1]);
}
