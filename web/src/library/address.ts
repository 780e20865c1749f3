// The search and the shelf of the library as an address has them.
import type { Filters } from "./state.svelte";

const SORTS: Filters["sort"][] = ["newest", "oldest", "longest"];

export function queryOf({ q, tags, folder, model, favourite, trashed, sort }: Filters): string {
  const query = new URLSearchParams();
  if (q !== "") query.set("q", q);
  for (const tag of tags) query.append("tag", tag);
  if (folder !== null) query.set("folder", folder);
  if (model !== null) query.set("model", model);
  if (favourite) query.set("favourite", "yes");
  if (trashed) query.set("trash", "yes");
  if (sort !== "newest") query.set("sort", sort);
  return query.toString();
}

export function filtersIn(text: string): Filters {
  const query = new URLSearchParams(text);
  return {
    q: query.get("q") ?? "",
    tags: query.getAll("tag"),
    folder: query.get("folder"),
    model: query.get("model"),
    favourite: query.get("favourite") === "yes",
    trashed: query.get("trash") === "yes",
    sort: SORTS.find((one) => one === query.get("sort")) ?? "newest",
  };
}
