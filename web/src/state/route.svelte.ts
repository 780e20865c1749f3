// Which part of the page is shown; kept in the address, so that back, forward and bookmarks work.

export type Place = "make" | "queue" | "library" | "clip" | "compare" | "arena" | "training";
const PLACES: Place[] = ["make", "queue", "library", "clip", "compare", "arena", "training"];

export interface Route {
  place: Place;
  ids: string[];
}

function read(): Route {
  const [place = "", rest = ""] = location.hash.replace(/^#\/?/, "").split("/");
  const ids = decodeURIComponent(rest).split(",").filter((id) => id !== "");
  return { place: PLACES.find((one) => one === place) ?? "make", ids };
}

export const route = $state<Route>(read());

addEventListener("hashchange", () => {
  Object.assign(route, read());
});

export function hrefOf(place: Place, ...ids: string[]): string {
  return `#/${place}${ids.length === 0 ? "" : `/${ids.join(",")}`}`;
}

export function goTo(place: Place, ...ids: string[]): void {
  location.hash = hrefOf(place, ...ids);
}
