"""What the metrics' networks are fed with, computed without torchaudio and torchvision: coefficients, spectrograms, pictures."""
