"""Blind comparison of clips by people: votes, ratings, the pairs to show, and a small local server for the page."""
