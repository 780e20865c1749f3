"""How the embedded model was trained and is measured. What it learnt from, and its weights, are in phonofilm.nano."""
