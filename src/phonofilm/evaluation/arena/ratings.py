"""Ratings from votes: Elo, Bradley-Terry with bootstrap intervals, and shares of wins, ties and losses. Knows no clips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phonofilm.evaluation.arena.votes import Vote

START = 1000.0
SCALE = 400.0
K_FACTOR = 16.0
ORDERS = 50  # Elo depends on the order of the votes, so it is averaged over random ones
RESAMPLES = 1000
TOLERANCE = 1e-7  # of a log strength; 400 / ln 10 of it are points
MOST_STEPS = 200  # forty in the worst of 300 random tables of 2 to 14 models
PRIOR = 0.1  # ties with a player of rating START: keeps a model that always won from a rating without end


@dataclass(frozen=True)
class ModelRating:
    """A model's standing.

    low, high: the middle 95 % of its Bradley-Terry rating over votes drawn with replacement; None where every draw gives
    the same rating, as with votes that are all alike, and where nothing ties the model to the others from both sides (it won
    all, lost all, or never met them): such votes do not say how sure it is.
    """

    model: str
    elo: float
    bradley_terry: float
    low: float | None
    high: float | None
    votes: int


@dataclass(frozen=True)
class WinShares:
    """Of the votes between two models, the shares that `model` won, tied and lost against `opponent`."""

    model: str
    opponent: str
    win: float
    tie: float
    lose: float
    votes: int


def expected_score(difference: float) -> float:
    """The share of a model that is `difference` Elo points stronger, ties counted half."""
    return float(1.0 / (1.0 + 10.0 ** (-difference / SCALE)))


def rate(votes: Sequence[Vote]) -> tuple[ModelRating, ...]:
    """Every model that was voted on, the strongest first."""
    models = sorted({name for vote in votes for name in (vote.left, vote.right)})
    if not models:
        return ()
    index = {name: at for at, name in enumerate(models)}
    games = np.array([(index[vote.left], index[vote.right]) for vote in votes])
    scores = np.array([vote.score for vote in votes])
    rng = np.random.default_rng(0)
    elo = np.mean([_elo(games, scores, len(models), rng.permutation(len(scores))) for _ in range(ORDERS)], axis=0)
    drawn = rng.integers(len(scores), size=(RESAMPLES, len(scores)))
    every = np.concatenate((np.arange(len(scores))[None], drawn))
    fitted, *spread = bradley_terry(_wins(games, scores, every, len(models)))
    low, high = np.quantile(spread, (0.025, 0.975), axis=0)
    counts = np.bincount(games.ravel(), minlength=len(models))
    tied = _tied(games, scores, len(models))
    ratings = []
    for name, at in index.items():
        sure = _interval(low[at], high[at]) if tied[at] else (None, None)
        ratings.append(ModelRating(name, float(elo[at]), float(fitted[at]), *sure, int(counts[at])))
    return tuple(sorted(ratings, key=lambda one: -one.bradley_terry))


def bradley_terry(wins: NDArray[np.float64]) -> NDArray[np.float64]:
    """[r, models, models], row over column -> [r, models] on Elo's scale, their mean 1000: the likeliest strengths.

    Ties count half a win each; every model also ties a tenth of a game with one of average strength. Newton's method: the
    usual fixed point (Hunter, 2004) takes thousands of rounds where models meet in a chain. Each step is shortened by
    log(1 + s) / s, where s is the most by which it moves two models apart, so that none overshoots (Bach, 2010).
    """
    met = wins + wins.transpose(0, 2, 1)
    won = wins.sum(2) + PRIOR / 2
    logs = np.zeros_like(won)
    own = np.arange(logs.shape[1])
    for _ in range(MOST_STEPS):
        expected, average = _logistic(logs[:, :, None] - logs[:, None, :]), _logistic(logs)
        slope = won - (met * expected).sum(2) - PRIOR * average
        weight = met * expected * (1 - expected)
        curvature = -weight
        curvature[:, own, own] += weight.sum(2) + PRIOR * average * (1 - average)
        step = np.linalg.solve(curvature, slope[:, :, None])[:, :, 0]
        apart = 2 * np.abs(step).max(1, keepdims=True) + 1e-12
        logs = logs + step * np.log1p(apart) / apart
        if apart.max() < TOLERANCE:
            break
    logs = logs / math.log(10)
    result: NDArray[np.float64] = START + SCALE * (logs - logs.mean(1, keepdims=True))
    return result


def _logistic(value: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-value)) without overflow."""
    share: NDArray[np.float64] = 0.5 * (1 + np.tanh(value / 2))
    return share


def _interval(low: float, high: float) -> tuple[float | None, float | None]:
    return (None, None) if high - low < 1e-3 else (float(low), float(high))


def _tied(games: NDArray[np.int64], scores: NDArray[np.float64], models: int) -> NDArray[np.bool_]:
    """[models]: which of them belong to the largest group whose members all took points from each other, if through others.

    Between two such groups all points went one way, or none were given: how far they lie apart has no upper end.
    """
    took = np.eye(models, dtype=bool)
    for (left, right), score in zip(games.tolist(), scores.tolist(), strict=True):
        took[left, right] |= score > 0
        took[right, left] |= score < 1
    for middle in range(models):
        took |= took[:, middle, None] & took[middle]
    groups = took & took.T
    largest = groups[groups.sum(1).argmax()]
    result: NDArray[np.bool_] = largest if largest.sum() > 1 else np.zeros(models, bool)
    return result


def _wins(
    games: NDArray[np.int64], scores: NDArray[np.float64], chosen: NDArray[np.int64], models: int
) -> NDArray[np.float64]:
    """Games [n, 2], their scores [n] and choices of them [r, n] -> how much each model won against each [r, m, m]."""
    wins = np.zeros((len(chosen), models, models))
    for matrix, those in zip(wins, chosen, strict=True):
        np.add.at(matrix, (games[those, 0], games[those, 1]), scores[those])
        np.add.at(matrix, (games[those, 1], games[those, 0]), 1 - scores[those])
    return wins


def win_shares(votes: Sequence[Vote]) -> tuple[WinShares, ...]:
    """Every pair of models that met, from both sides."""
    models = sorted({name for vote in votes for name in (vote.left, vote.right)})
    found = []
    for model in models:
        for opponent in models:
            scores = [
                vote.score if vote.left == model else 1 - vote.score
                for vote in votes
                if {vote.left, vote.right} == {model, opponent} and model != opponent
            ]
            if scores:
                win, tie, lose = (scores.count(value) / len(scores) for value in (1.0, 0.5, 0.0))
                found.append(WinShares(model, opponent, win, tie, lose, len(scores)))
    return tuple(found)


def difference_of(share: float) -> float:
    """The Elo points behind a share of the score; infinite for 0 and 1."""
    if share in (0.0, 1.0):
        return math.inf if share else -math.inf
    return SCALE * math.log10(share / (1 - share))


def _elo(
    games: NDArray[np.int64], scores: NDArray[np.float64], models: int, order: NDArray[np.int64]
) -> NDArray[np.float64]:
    rating = [START] * models
    for at in order.tolist():
        left, right = games[at].tolist()
        change = K_FACTOR * (float(scores[at]) - expected_score(rating[left] - rating[right]))
        rating[left] += change
        rating[right] -= change
    return np.array(rating)
