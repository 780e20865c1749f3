// Which part of the page is shown; kept in the address, so that back, forward and bookmarks work.

export type Place = "make" | "queue" | "library" | "clip" | "compare" | "arena" | "training";
const PLACES: Place[] = ["make", "queue", "library", "clip", "compare", "arena", "training"];

export interface Route {
  place: Place;
  ids: string[];
  /** What follows a question mark: what is searched for, and on which shelf. */
  query: string;
}

function read(): Route {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const [place = "", rest = ""] = path.split("/");
  const ids = decoded(rest).split(",").filter((id) => id !== "");
  return { place: PLACES.find((one) => one === place) ?? "make", ids, query };
}

/** An address that was cut short or typed wrongly leads to a clip that is not there, not to an empty page. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
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
  // The browser says so later, and whoever asks where one is next should not be told where one was.
  Object.assign(route, read());
}

/** In the place of the address that is shown, so that “back” does not lead to it again. */
export function comeBack(place: Place, ...ids: string[]): void {
  history.replaceState(history.state, "", hrefOf(place, ...ids));
  Object.assign(route, read());
}

/** The query of the part that is shown: as one more address, which “back” leaves, or in the place of the one that is shown. */
export function setQuery(query: string, how: "push" | "replace"): void {
  const href = `${hrefOf(route.place, ...route.ids)}${query === "" ? "" : `?${query}`}`;
  if (how === "push") history.pushState(null, "", href);
  else history.replaceState(history.state, "", href);
  Object.assign(route, read());
}
