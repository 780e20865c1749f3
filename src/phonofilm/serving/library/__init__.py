"""The library of clips: looking through it, sorting it, and its trash. What routes make of it is in studio/."""
