"""The studio's server side: the page itself, signing in, and the routes below /v1/studio that only the page needs."""
