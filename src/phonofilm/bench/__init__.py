"""How fast and how small a guided step is on this machine, beside a peer on the same weights, and beside what is possible."""
