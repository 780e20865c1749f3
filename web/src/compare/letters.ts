// The keys that the clips of a comparison are heard by. Digits go to the parts of the page.

export const LETTERS = ["A", "B", "C", "D"];
