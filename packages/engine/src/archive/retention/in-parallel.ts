/** Works through all of them, so many at once; ends with the first failure, after what had begun has ended. */
export async function inParallel<Item>(items: Iterable<Item>, atOnce: number, work: (item: Item) => Promise<void>): Promise<void> {
  const rest = items[Symbol.iterator]();
  let failed: { readonly error: unknown } | undefined;
  const lane = async (): Promise<void> => {
    for (let next = rest.next(); !next.done && !failed; next = rest.next()) {
      try {
        await work(next.value);
      } catch (error) {
        failed ??= { error };
      }
    }
  };
  await Promise.all(Array.from({ length: atOnce }, lane));
  if (failed) throw failed.error;
}
