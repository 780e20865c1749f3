"""The files of weights that the metrics' networks were published in: sizes, hashes, licences, and where they come from."""

from __future__ import annotations

from phonofilm.evaluation.requirements import WeightFile

SYNCNET = WeightFile(
    "syncnet_v2.model",
    54_573_114,
    "961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442",
    "CC-BY, for research",
    "www.robots.ox.ac.uk/~vgg/software/lipsync",
)
S3FD = WeightFile(
    "sfd_face.pth",
    89_844_381,
    "d54a87c2b7543b64729c9a25eafd188da15fd3f6e02f0ecec76ae1b30d86c491",
    "CC-BY, for research",
    "www.robots.ox.ac.uk/~vgg/software/lipsync",
)
CNN14 = WeightFile(
    "Cnn14_mAP=0.431.pth",
    327_428_481,
    "0dc499e40e9761ef5ea061ffc77697697f277f6a960894903df3ada000e34b31",
    "CC-BY-4.0",
    "zenodo.org/records/3987831",
)
SYNCHFORMER = WeightFile(
    "synchformer_state_dict.pth",
    950_058_171,
    "8aff082f2df5c3bc52759db0c865c7ee772ae6400b860d1b7e90413f2defb67c",
    "MIT",
    "huggingface.co/hkchengrex/MMAudio, ext_weights",
)
IMAGEBIND = WeightFile(
    "imagebind_huge.pth",
    4_803_584_173,
    "d6f6c22bedcc90708448d5d2fbb7b2db9c73f505dc89bd0b2e09b23af1b62157",
    "CC-BY-NC-4.0, not for commercial use",
    "dl.fbaipublicfiles.com/imagebind",
)
CLAP = WeightFile(
    "630k-audioset-fusion-best.pt",
    1_863_889_051,
    "fb171dd9b608aebdac3d89286cd7615c5100af4cc7dc37797c7fb8d3cc15e3a5",
    "CC0",
    "huggingface.co/lukewys/laion_clap",
)
ROBERTA_TOKENIZER = WeightFile(
    "roberta-base/tokenizer.json", 1_360_000, "", "MIT", "huggingface.co/FacebookAI/roberta-base", rounded=True
)
