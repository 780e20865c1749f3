// Which part of the page is shown; kept in the address, so that back, forward and bookmarks work.

export type Place = "make" | "queue" | "library" | "clip" | "compare" | "arena" | "training";
const PLACES: Place[] = ["make", "queue", "library", "clip", "compare", "arena", "training"];

export interface Route {
  place: Place;
  ids: string[];
}

function read(): Route {
  const [place = "", rest = ""] = location.hash.replace(/^#\/?/, "").split("/");
  const ids = decoded(rest).split(",").filter((id) => id !== "");
  return { place: PLACES.find((one) => one === place) ?? "make", ids };
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
